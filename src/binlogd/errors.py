"""Every error binlogd raises, and whose mistake each one is.

    BinlogdError                     .message  .hint  .code (MySQL's number)  .retriable  .exit_code  .alarm
    ├── ConfigError                  the user: a key, value or option is wrong                      exit 2
    ├── ListenError                  the machine: an address we were told to listen on is taken     exit 2
    ├── StoreError                   our own disk                                                   exit 4
    │   ├── StoreInUse               another receiver holds the lock
    │   ├── StoreUnreadable          a folder or file cannot be opened, read or written
    │   └── StoreDamaged             bytes on disk contradict themselves
    ├── PeerError                    the machine at the other end
    │   ├── Unreachable              no connection, or it was lost, or silence            retriable
    │   ├── ProtocolError            it sent what the protocol does not allow             retriable
    │   │   └── EventError           an event is corrupt or does not continue the file    retriable
    │   └── ServerError              it answered with an ERR packet: code, sqlstate, its text
    ├── SourceRefused                the source, or its state, rules out replication; people must act   exit 3
    │   ├── SourceDiverged           its history is not the one that is stored
    │   └── SourceGap                it no longer has what comes next
    └── Refusal                      our answer to a client of ours: an ERR packet to be sent

``LocalProtocolError`` is ours alone: a caller asked a protocol object for something its state does not allow. It
is a bug, never caused by a peer, and therefore not a ``BinlogdError``.

A message says what happened and what is at risk; the hint says what to do. Both are one line and hold no secret. A
message may repeat what a stranger said; as a text (``str``) it is one line whatever that was.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    """``text`` in which nothing ends a line or moves a cursor: blanks are spaces, the rest is escaped."""
    return "".join(char if char.isprintable() else " " if char.isspace() else ascii(char)[1:-1] for char in text)


class BinlogdError(Exception):
    """Base of every expected failure.

    ``message`` and ``hint`` are single lines for people; ``code`` is MySQL's error number or 0; ``retriable`` says
    whether the same attempt may succeed later without anybody acting; ``exit_code`` is the process's exit code when
    the error ends a command; ``alarm`` is the code it has among the status's alarms.
    """

    exit_code = 1
    retriable = False
    alarm = "receiver_failed"

    def __init__(self, message: str, *, hint: str = "", code: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        text = f"{self.message} — {self.hint}" if self.hint else self.message
        return text if text.isprintable() else one_line(text)


class ConfigError(BinlogdError):
    """A configuration key, value or command-line option is wrong."""

    exit_code = 2


class ListenError(BinlogdError):
    """An address we were told to listen on cannot be had."""

    exit_code = 2


class StoreError(BinlogdError):
    """The store on our own disk cannot be used. ``alarm`` is the code of the alarm for it."""

    exit_code = 4
    alarm = "store_unusable"


class StoreInUse(StoreError):
    """Another receiver holds the store's lock."""

    alarm = "store_in_use"


class StoreUnreadable(StoreError):
    """A folder or file of the store cannot be opened, read or written: the operating system refused, which may pass."""

    def __init__(self, message: str, *, hint: str = "", alarm: str = StoreError.alarm) -> None:
        super().__init__(message, hint=hint)
        self.alarm = alarm


class StoreDamaged(StoreError):
    """Bytes on disk contradict themselves: a checksum, a length, an index."""

    alarm = "store_damaged"


class PeerError(BinlogdError):
    """The machine at the other end of a connection failed us."""

    retriable = True


class Unreachable(PeerError):
    """No connection could be made, or it was lost, or the peer fell silent."""


class ProtocolError(PeerError):
    """The peer sent what the MySQL protocol does not allow."""


class EventError(ProtocolError):
    """An event arrived corrupt or does not continue the file."""


class ServerError(PeerError):
    """The peer answered with an ERR packet."""

    def __init__(self, message: str, *, code: int, sqlstate: str = "HY000", hint: str = "") -> None:
        super().__init__(message, hint=hint, code=code)
        self.sqlstate = sqlstate


class SourceRefused(BinlogdError):
    """The source, or the state it is in, rules out replication until somebody acts."""

    exit_code = 3
    alarm = "source_refused"


class SourceDiverged(SourceRefused):
    """The source lacks what is stored, or has something else in its place: it was restored, reset, or lost it."""

    alarm = "source_diverged"


class SourceGap(SourceRefused):
    """The source has purged what comes behind the store's end."""

    alarm = "source_gap"


class Refusal(BinlogdError):
    """Our answer to a client's command: the ERR packet to be sent to it."""

    def __init__(self, code: int, sqlstate: str, message: str) -> None:
        super().__init__(message, code=code)
        self.sqlstate = sqlstate


class LocalProtocolError(RuntimeError):
    """A protocol object was used in a state that does not allow the call: a bug of ours."""
