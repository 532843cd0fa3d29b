"""What the receiver has made durable and complete, as everybody else may see it.

A *publication* says: up to ``position`` of ``file`` everything is durable and ends with a whole transaction (rule 2
of the design). Publications only move forward. Files before ``file`` in the same timeline, and all earlier
timelines, are finished.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from binlogd.binlog.gtid import GtidSet
from binlogd.store.removed import ALL, First


@dataclass(frozen=True, slots=True)
class Step:
    """From one set to another: ``after`` is ``before`` and ``added``. Whoever made it so knows without comparing."""

    before: GtidSet
    added: GtidSet
    after: GtidSet


@dataclass(frozen=True, slots=True)
class Publication:
    """``timeline`` is its number, 0 while the store is empty; ``file`` is then "" and ``position`` 0.

    ``executed`` holds every GTID that is published or was purged, ``purged`` those of them that are not in the
    store's files; ``server_version`` is the source's, as its newest file says. ``step`` leads to ``executed`` from that
    of the publication before, when that is known. What stands before the ``first`` file was removed (removed.py).
    """

    timeline: int
    file: str
    position: int
    executed: GtidSet
    purged: GtidSet
    server_version: str
    step: Step | None = field(default=None, compare=False, repr=False)
    first: First = field(default=ALL, compare=False)
    _texts: list[str] = field(default_factory=list, init=False, compare=False, repr=False)  # of both sets, once asked

    def encode(self) -> dict[str, Any]:
        """For JSON. What takes long, and whoever asks for a status asks for it, is done once."""
        if not self._texts:
            self._texts[:] = self.executed.compact(), self.purged.compact()  # at once: two threads may ask
        executed, purged = self._texts
        return {
            "timeline": self.timeline,
            "file": self.file,
            "position": self.position,
            "executed": executed,
            "purged": purged,
            "server_version": self.server_version,
            "first": list(self.first),
        }

    def encode_since(self, known: Publication) -> dict[str, Any]:
        """For JSON, to one who knows an earlier one: what is new, however large the sets are.

        To one who knows the one before in time that does not depend on how large they are, either.
        """
        same = (self.timeline, self.server_version, self.first) == (known.timeline, known.server_version, known.first)
        same = same and self.purged == known.purged
        step = self.step
        if same and step is not None and step.before is known.executed and step.after is self.executed:
            added = step.added
        elif same and known.executed <= self.executed:
            added = self.executed - known.executed
        else:
            return self.encode()
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
            first=(int(data["first"][0]), str(data["first"][1])),
        )


NOTHING = Publication(0, "", 0, GtidSet(), GtidSet(), "")
