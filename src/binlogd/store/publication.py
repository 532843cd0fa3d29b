"""What the receiver has made durable and complete, as everybody else may see it.

A *publication* says: up to ``position`` of ``file`` everything is durable and ends with a whole transaction (rule 2
of the design). Publications only move forward. Files before ``file`` in the same timeline, and all earlier
timelines, are finished.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from binlogd.binlog.gtid import GtidSet


@dataclass(frozen=True, slots=True)
class Publication:
    """``timeline`` is its number, 0 while the store is empty; ``file`` is then "" and ``position`` 0.

    ``executed`` holds every GTID that is published or was purged, ``purged`` those of them that are not in the
    store's files; ``server_version`` is the source's, as its newest file says.
    """

    timeline: int
    file: str
    position: int
    executed: GtidSet
    purged: GtidSet
    server_version: str

    def encode(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "timeline": self.timeline,
            "file": self.file,
            "position": self.position,
            "executed": self.executed.compact(),
            "purged": self.purged.compact(),
            "server_version": self.server_version,
        }

    def encode_since(self, known: Publication) -> dict[str, Any]:
        """For JSON, to one who knows an earlier one: what is new, however large the sets are."""
        if (self.timeline, self.server_version) != (known.timeline, known.server_version) or (
            self.purged != known.purged or not known.executed <= self.executed
        ):
            return self.encode()
        added = self.executed - known.executed
        return {"file": self.file, "position": self.position, "added": added.compact()}

    @classmethod
    def decode(cls, data: dict[str, Any], known: Publication | None = None) -> Publication:
        """The reverse of ``encode``, or of ``encode_since`` the one that is ``known``."""
        if "added" in data:
            if known is None:
                raise ValueError("news of a publication that nobody told of")
            executed = known.executed.add_runs(GtidSet.parse(data["added"]).runs())
            return replace(known, file=str(data["file"]), position=int(data["position"]), executed=executed)
        return cls(
            timeline=int(data["timeline"]),
            file=str(data["file"]),
            position=int(data["position"]),
            executed=GtidSet.parse(data["executed"]),
            purged=GtidSet.parse(data["purged"]),
            server_version=str(data["server_version"]),
        )


NOTHING = Publication(0, "", 0, GtidSet(), GtidSet(), "")
