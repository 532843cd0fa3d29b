"""A hostile source: greeting, login, and answers to all that is asked before a dump, as the receiver asks it.

    flags1  raw?  semi-sync wanted?  compression (2 bits)  TLS allowed?  byte by byte?  only a check's questions?
    then    raw: what the source sends; otherwise payloads behind their lengths, each sent with the id that is due

TLS is taken as made as soon as both want it; what is behind it is the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from binlogd.errors import BinlogdError, Unreachable
from binlogd.receiver import inquiry, session
from binlogd.receiver.link import Wake
from binlogd.receiver.plan import Start
from binlogd.receiver.session import Secret, Session, SourceOptions, Tls
from binlogd.store.layout import Identity
from binlogd.wire.client import MAX_LOGIN_PACKET
from binlogd.wire.compression import Algorithm
from binlogd.wire.packets import PacketReader
from binlogd.wire.results import MAX_RESULT
from tests.fuzz import shapes

PASSWORD = "the-password-of-the-source"
IDENTITY = Identity("5e11fa47-71ca-11e1-9e33-c80aa9429562", 4711)
SAID = 64 * 1024  # bytes that we say at most: logins, and two dozen short questions
READ = 65536  # bytes that a link reads at once
WAKE = Wake()


class Wire:
    """In a link's place: the input is what comes, and what goes is looked at."""

    timeout = 1.0
    peer = "source:3306"

    def __init__(self, data: bytes, reader: PacketReader) -> None:
        self._raw = bool(data[0] & 1)
        body = data[1:]
        piece = 1 if data[0] & 32 and len(body) < 2000 else READ
        self._pieces = shapes.cut(body, piece) if self._raw else shapes.split(body)
        self._reader = reader
        self._said = 0
        self.encrypted = False

    def receive(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            raise Unreachable("the source closed the connection", code=2013) from None
        assert self._reader.buffered <= max(MAX_LOGIN_PACKET, MAX_RESULT) + READ
        return piece if self._raw else shapes.packet(piece, self._reader.sequence)

    def send(self, data: bytes) -> None:
        self._said += len(data)
        assert self._said <= SAID
        assert self.encrypted or PASSWORD.encode() not in data

    def start_tls(self, _context: object, _host: str) -> None:
        self.encrypted = True

    def start_compression(self, _algorithm: Algorithm) -> None:
        pass

    def begin_login(self) -> None:
        pass

    def end_login(self, timeout: float) -> None:
        pass

    def begin_dump(self, *, semi_sync: bool) -> None:
        pass


def run(data: bytes) -> None:
    """See the package."""
    if not data:
        return
    flags = data[0]
    options = SourceOptions(
        host="source",
        port=3306,
        user="repl",
        password=Secret(PASSWORD),
        semi_sync=bool(flags & 2),
        compression=(None, Algorithm.ZLIB, Algorithm.ZSTD, None)[flags >> 2 & 3],
        tls=Tls.PREFERRED if flags & 16 else Tls.DISABLED,
    )
    asking = Session(options, IDENTITY, WAKE)
    reader = asking._connection._reader

    def link(*_: Any, **__: Any) -> Wire:
        return Wire(data, reader)

    try:
        with patch.object(session, "Link", link):
            asking.connect()
        if flags & 64:
            inquiry.ask(asking, local=False)
            return
        asking.prepare()
        asking.enlist()
        asking.settings()
        asking.current_file()
        asking.dump(Start("mysql-bin.000001", 4, "COM_BINLOG_DUMP"))
    except BinlogdError as error:
        shown = str(error)
        assert PASSWORD not in shown
        assert "\n" not in shown


def seeds(captures: dict[str, bytes]) -> Iterator[bytes]:
    """From what real sources sent."""
    for name, stream in captures.items():
        if not name.startswith("server-"):
            continue
        login = stream[:16000]
        for flags in (0, 2, 64, 16):
            yield bytes([1 | flags]) + login
            yield bytes([flags]) + shapes.join(payload for _, payload in shapes.payloads(login))
