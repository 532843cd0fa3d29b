"""The ERR packet: 0xFF, the code, the SQL state, the text.

    ff  code2  '#' sqlstate5  message to the end

The SQL state and its '#' are left out before the client has said that it speaks protocol 4.1: in an ERR that
takes the greeting's place (too many connections, host blocked). (Source: dev.mysql.com/doc/dev/mysql-server,
page_protocol_basic_err_packet; net_send_error_packet in the server.)
"""

from __future__ import annotations

from binlogd.errors import ServerError
from binlogd.wire.codec import Reader

ERR_HEADER = 0xFF

GENERAL_STATE = "HY000"
"""The SQL state of an error that has no other, and of one that came without."""


def encode_error(code: int, sqlstate: str | None, message: str) -> bytes:
    """An ERR payload; ``sqlstate`` None gives the old form without one.

    Clients keep 511 bytes of the message.
    """
    state = b"" if sqlstate is None else b"#" + sqlstate.encode("ascii")
    return bytes([ERR_HEADER]) + code.to_bytes(2, "little") + state + message.encode("utf-8", "replace")


def decode_error(payload: bytes) -> ServerError:
    """The ``ServerError`` an ERR payload stands for (returned, not raised). ``ProtocolError`` when it is cut
    short.

    The text may be in any character set (before login it is the server's own), so bytes that are not UTF-8
    are shown replaced rather than refused: the code is what matters.
    """
    reader = Reader(payload, "an ERR packet")
    reader.take(1)
    code = reader.integer(2)
    rest = reader.rest()
    state = GENERAL_STATE
    if rest[:1] == b"#" and len(rest) >= 6 and rest[1:6].isalnum():
        state, rest = rest[1:6].decode("ascii"), rest[6:]
    text = " ".join(rest.decode("utf-8", "replace").split())
    return ServerError(text or f"error {code}", code=code, sqlstate=state)
