"""Where things lie in the data folder, and who we are.

    DATA_DIR/
      auto.cnf                       server-uuid and server-id, made once, like mysqld's
      receiver.lock                  flock: one receiver owns the store
      receiver.sock, sender.sock     status and publications (see control/)
      binlogs/
        0001-<source server_uuid>/   a timeline: one source's unbroken history under its own file names
          mysql-bin.000001
          mysql-bin.000001.idx       what the file holds (index.py)
          mysql-bin.000002.marks     where transactions begin in the newest file (index.py)
          mysql-bin.000002.synced    how much of it is durable, when it has no checksums (synced.py)
          mysql-bin.index            as mysqld writes it
          source.json                settings of the source (source_facts.py)
          gtid_purged.json           what it had purged, as far as its files do not say so (purged.py)
        removed.json                 which files were removed, and what went with them; and a copy (removed.py)

Timelines are numbered from 1 in the order in which they were followed. A binary log's name is ``<base>.<digits>``;
names beginning with a dot are unfinished and may be removed by the receiver, and so may marks, which it makes anew.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import uuid
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from dataclasses import dataclass
from pathlib import Path

from binlogd.errors import SourceRefused, StoreDamaged, StoreUnreadable
from binlogd.store.disk import Disk, explained

_TIMELINE = re.compile(r"(\d{4,})-([0-9a-zA-Z][0-9a-zA-Z-]*)")
_BINLOG = re.compile(r"(?!\.)([^/\0]+)\.(\d{6,})")
MAX_NAME = 255  # bytes of a file name: what file systems take
MAX_SERVER_ID = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What this server calls itself: kept, because replicas and sources remember it."""

    server_uuid: str
    server_id: int


@dataclass(frozen=True, slots=True, order=True)
class Timeline:
    """One source's unbroken history: ``number`` from 1, the source's ``source_uuid``, the folder ``path``."""

    number: int
    source_uuid: str
    path: Path

    def binlogs(self) -> list[str]:
        """The names of its binary logs in the order of their numbers."""
        with explained("list", self.path):
            names = [name for name in os.listdir(self.path) if name[-1].isdigit() and is_binlog_name(name)]
        names.sort()
        names.sort(key=binlog_number)
        return names

    def temporaries(self, tail: str) -> list[Path]:
        """What a crash left: unfinished files, marks, and what is said of other binary logs than ``tail`` alone."""
        with explained("list", self.path):
            return sorted(
                self.path / entry.name
                for entry in os.scandir(self.path)
                if entry.name.startswith(".") or entry.name.endswith((".marks", ".synced"))
                if entry.name != f"{tail}.synced"
                if entry.is_file(follow_symlinks=False)
            )


def is_binlog_name(name: str) -> bool:
    """Whether this is a name that mysqld gives a binary log, and safe as a file name of ours."""
    return len(name.encode(errors="surrogateescape")) <= MAX_NAME - 16 and _BINLOG.fullmatch(name) is not None


def binlog_number(name: str) -> int:
    """The sequence number in a binary log's name."""
    return int(name.rpartition(".")[2])


def binlog_base(name: str) -> str:
    """The part of a binary log's name before its number."""
    return name.rpartition(".")[0]


class DataFolder:
    """The paths in a data folder. Making one touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.binlogs = path / "binlogs"
        self.lock = path / "receiver.lock"
        self.auto_cnf = path / "auto.cnf"

    def exists(self) -> bool:
        """Whether a store was ever made here."""
        return self.binlogs.is_dir()

    def prepare(self, disk: Disk) -> None:
        """Make the folders that are missing, for their owner alone."""
        with explained("make", self.binlogs):
            disk.make_folder(self.binlogs)
        with explained("use", self.path):
            if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(13, "Permission denied")

    def timelines(self) -> list[Timeline]:
        """The timelines, oldest first."""
        with explained("read", self.binlogs):
            if not self.binlogs.is_dir():
                if self.path.exists():
                    os.listdir(self.path)
                return []
        with explained("list", self.binlogs):
            names = os.listdir(self.binlogs)
        found = []
        for name in names:
            match = _TIMELINE.fullmatch(name)
            if match and (self.binlogs / name).is_dir():
                found.append(Timeline(int(match[1]), match[2], self.binlogs / name))
        found.sort()
        return found

    def new_timeline(self, disk: Disk, source_uuid: str) -> Timeline:
        """A folder for another source's history, after all that have a file.

        One that never got a file is taken again for the same source.
        """
        number = 1
        for timeline in reversed(self.timelines()):
            number = max(number, timeline.number + 1)
            if timeline.binlogs():
                break
            if timeline.source_uuid == source_uuid:
                return timeline
        name = f"{number:04d}-{source_uuid}"
        if not _TIMELINE.fullmatch(name):
            raise SourceRefused(
                f"the source calls itself {source_uuid[:80]!r}, which is no server_uuid",
                hint="check server_uuid in the source's auto.cnf",
            )
        path = self.binlogs / name
        with explained("make", path):
            disk.make_folder(path)
        return Timeline(number, source_uuid, path)

    def identity(self, disk: Disk, *, server_id: int | None = None, server_uuid: str | None = None) -> Identity:
        """Who we are: as given, else as kept in auto.cnf, else made now; what is new is kept.

        Two processes that start at once on a new folder get the same answer: one at a time looks and makes.
        """
        with explained("lock", self.path):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return self._identity(disk, server_id, server_uuid)
        finally:
            os.close(descriptor)

    def _identity(self, disk: Disk, server_id: int | None, server_uuid: str | None) -> Identity:
        kept = self._read_auto_cnf()
        identity = Identity(
            server_uuid=server_uuid or (kept.server_uuid if kept else str(uuid.uuid4())),
            server_id=server_id or (kept.server_id if kept else 1 + secrets.randbelow(MAX_SERVER_ID)),
        )
        if identity != kept:
            try:
                with explained("write", self.auto_cnf):
                    disk.replace(
                        self.auto_cnf,
                        f"[auto]\nserver-uuid={identity.server_uuid}\nserver-id={identity.server_id}\n".encode(),
                    )
            except StoreUnreadable as bad:  # no half of binlogd can go on without it, or wait
                bad.hint = "mend that, for instance make room on that disk, and start binlogd again"
                raise
        return identity

    def _read_auto_cnf(self) -> Identity | None:
        if not self.auto_cnf.exists():
            return None
        parser = ConfigParser(interpolation=None)
        try:
            with explained("read", self.auto_cnf):
                parser.read_string(self.auto_cnf.read_text())
            server_id = parser.getint("auto", "server-id")
            if not 0 < server_id <= MAX_SERVER_ID:
                raise ValueError(server_id)
            return Identity(str(uuid.UUID(parser["auto"]["server-uuid"])), server_id)
        except (ConfigParserError, KeyError, ValueError) as bad:
            raise StoreDamaged(
                f"{self.auto_cnf} does not hold a server-uuid and a server-id under [auto]",
                hint="restore it, or remove it to have a new identity made (replicas will see another server)",
            ) from bad
