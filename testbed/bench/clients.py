"""A replication client: logs in, says what a replica says before a dump, and asks for it. The rest is the caller's.

The login is done by binlogd's own client role, which is measured nowhere; from the dump on there is only the socket. A
dump that is asked for with NON_BLOCK ends with an EOF packet of one of two shapes: five bytes of payload, or seven
where both sides know DEPRECATE_EOF (results.py)::

    05 00 00 seq  fe  warnings2 status2              07 00 00 seq  fe  00 00  status2 warnings2
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from binlogd.binlog.gtid import GtidSet
from binlogd.wire.client import ClientConnection, ClientState, TlsPolicy
from binlogd.wire.commands import BinlogDump, BinlogDumpGtid, RegisterReplica
from binlogd.wire.results import Result

NON_BLOCK = 1  # the dump ends at the newest event
FIRST_SERVER_ID = 4_000_000_001  # above what the test bed's servers use, which is their ports
PATIENCE = 600.0  # seconds without a byte
LONGEST_END = 11  # bytes of the longer of the two EOF packets, its header included
GTID_EVENTS = (33, 42)  # GTID_LOG_EVENT, GTID_TAGGED_LOG_EVENT: how transactions begin
EVENT_TYPE = 4 + 1 + 4  # where it stands in a packet: header, the byte 00, the event's timestamp


@dataclass(frozen=True, slots=True)
class Address:
    """Where to log in and as whom."""

    host: str
    port: int
    user: str
    password: str
    tls: bool = False


class Client:
    """One connection, logged in when it is made."""

    def __init__(self, address: Address, number: int = 0) -> None:
        self.server_id = FIRST_SERVER_ID + number
        self.socket: socket.socket = socket.create_connection((address.host, address.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection = ClientConnection(
            user=address.user,
            password=address.password,
            tls=TlsPolicy.REQUIRED if address.tls else TlsPolicy.DISABLED,
            attributes={"program_name": "binlogd-bench"},
        )
        try:
            while connection.state is not ClientState.READY:
                if connection.state is ClientState.WANT_TLS:
                    self._flush()
                    self.socket = _unverified().wrap_socket(self.socket)
                    connection.tls_established()
                else:
                    self._receive()
                self._flush()
        except BaseException:
            self.socket.close()
            raise

    def query(self, sql: str) -> Result:
        """One statement."""
        self._connection.query(sql)
        return self._result()

    def announce(self, *, heartbeat: float = 0.0) -> None:
        """Say that we know checksums, and how long a silence may be (seconds; 0: for ever)."""
        self.query("SET @source_binlog_checksum = @@GLOBAL.binlog_checksum")
        self.query(f"SET @source_heartbeat_period = {round(heartbeat * 1e9)}")

    def register(self) -> None:
        """Be listed as a replica with a UUID of our own."""
        self.query(f"SET @replica_uuid = '{UUID(int=self.server_id)}', @slave_uuid = '{UUID(int=self.server_id)}'")
        self._connection.command(RegisterReplica(server_id=self.server_id).encode())
        self._result()

    def dump(self, file: str, position: int = 4) -> None:
        """Everything from there to the newest event."""
        self._start(BinlogDump(file=file, position=position, flags=NON_BLOCK, server_id=self.server_id).encode())

    def dump_gtid(self, has: GtidSet, *, blocking: bool = False) -> None:
        """Everything that is not in ``has``, and with ``blocking`` all that will come."""
        flags = 0 if blocking else NON_BLOCK
        command = BinlogDumpGtid(position=4, flags=flags, server_id=self.server_id, gtid_data=has.encode())
        self._start(command.encode())

    def packets(self) -> Iterator[bytes]:
        """The packets of the dump, headers included, until the EOF; raises on an error packet."""
        data = bytearray()
        while True:
            while len(data) < 4 or len(data) < 4 + (size := int.from_bytes(data[:3], "little")):
                received = self.socket.recv(1 << 16)
                if not received:
                    raise ConnectionError("the server closed the connection during a dump")
                data += received
            packet = bytes(data[: 4 + size])
            del data[: 4 + size]
            if packet[4:5] == b"\xff":
                raise ConnectionError(f"the dump ended with {packet[5:]!r}")
            if ends_dump(packet):
                return
            yield packet

    def until_transaction(self) -> None:
        """Read a dump until a transaction begins."""
        for packet in self.packets():
            if packet[EVENT_TYPE] in GTID_EVENTS:
                return
        raise ConnectionError("the dump ended without a transaction")

    def close(self) -> None:
        """Drop the connection, at once even in the middle of a dump."""
        self.socket.close()

    def _start(self, command: bytes) -> None:
        self._connection.start_dump(command)
        self._flush()
        assert not self._connection.remainder()

    def _result(self) -> Result:
        self._flush()
        while (result := self._connection.result()) is None:
            self._receive()
        return result

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._connection.receive(data)

    def _flush(self) -> None:
        self.socket.sendall(self._connection.data_to_send())


def ends_dump(tail: bytes) -> bool:
    """Whether what was received last, ``LONGEST_END`` bytes or more of it, ends with an EOF packet."""
    short, long = tail[-9:], tail[-11:]
    return (len(short) == 9 and short[:3] == b"\x05\0\0" and short[4] == 0xFE) or (
        len(long) == 11 and long[:3] == b"\x07\0\0" and long[4:7] == b"\xfe\0\0"
    )


def _unverified() -> ssl.SSLContext:
    """TLS to a server that made its certificate itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def reset_on_close(link: socket.socket) -> None:
    """Have ``close`` reset the connection, so that a server in mid-dump notices at once."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
