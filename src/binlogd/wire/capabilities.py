"""The numbers both sides must agree on: capability and status flags, commands, character sets, column types.

(Source: dev.mysql.com/doc/dev/mysql-server, group__group__cs__capabilities__flags, my_command.h,
field_types.h.) A flag counts only when the server offers it and the client asks for it. Unknown bits are
kept, so that a message decodes and encodes to the same bytes.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Capability(IntFlag):
    """Capability flags of the greeting and of the client's answer (32 bits)."""

    LONG_PASSWORD = 1 << 0
    """Also CLIENT_MYSQL: whoever leaves it out announces MariaDB's extended flags in the filler."""
    FOUND_ROWS = 1 << 1
    LONG_FLAG = 1 << 2
    CONNECT_WITH_DB = 1 << 3
    NO_SCHEMA = 1 << 4
    COMPRESS = 1 << 5
    ODBC = 1 << 6
    LOCAL_FILES = 1 << 7
    IGNORE_SPACE = 1 << 8
    PROTOCOL_41 = 1 << 9
    INTERACTIVE = 1 << 10
    SSL = 1 << 11
    IGNORE_SIGPIPE = 1 << 12
    TRANSACTIONS = 1 << 13
    RESERVED = 1 << 14
    SECURE_CONNECTION = 1 << 15
    MULTI_STATEMENTS = 1 << 16
    MULTI_RESULTS = 1 << 17
    PS_MULTI_RESULTS = 1 << 18
    PLUGIN_AUTH = 1 << 19
    CONNECT_ATTRS = 1 << 20
    PLUGIN_AUTH_LENENC = 1 << 21
    CAN_HANDLE_EXPIRED_PASSWORDS = 1 << 22
    SESSION_TRACK = 1 << 23
    DEPRECATE_EOF = 1 << 24
    OPTIONAL_RESULTSET_METADATA = 1 << 25
    ZSTD_COMPRESSION = 1 << 26
    QUERY_ATTRIBUTES = 1 << 27
    MULTI_FACTOR = 1 << 28
    CAPABILITY_EXTENSION = 1 << 29
    SSL_VERIFY_SERVER_CERT = 1 << 30
    REMEMBER_OPTIONS = 1 << 31


class StatusFlag(IntFlag):
    """Server status in OK and EOF packets (16 bits)."""

    IN_TRANS = 0x0001
    AUTOCOMMIT = 0x0002
    MORE_RESULTS = 0x0008
    SESSION_STATE_CHANGED = 0x4000


class Charset(IntEnum):
    """Collation ids we send; they stand in one byte in the handshake."""

    UTF8MB4_GENERAL_CI = 45
    """utf8mb4 under the only collation that every server since 5.5 and MariaDB share by default."""
    UTF8MB4_BIN = 46
    BINARY = 63
    """No character set: numbers, dates and byte strings."""
    UTF8MB4_UNICODE_CI = 224
    UTF8MB4_0900_AI_CI = 255
    """utf8mb4's collation by default since MySQL 8.0.1."""


class ColumnType(IntEnum):
    """Column types that we send, or that decide how a value received is decoded."""

    LONG = 3
    DOUBLE = 5
    NULL = 6
    LONGLONG = 8
    DATETIME = 12
    VARCHAR = 15
    BIT = 16
    VECTOR = 242
    NEWDECIMAL = 246
    TINY_BLOB = 249
    MEDIUM_BLOB = 250
    LONG_BLOB = 251
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255


class ColumnFlag(IntFlag):
    """Flags of a column definition (16 bits)."""

    NOT_NULL = 1 << 0
    UNSIGNED = 1 << 5
    BINARY = 1 << 7
    """Compares as bytes."""
    ENUM = 1 << 8
    NO_DEFAULT_VALUE = 1 << 12


class Command(IntEnum):
    """The first byte of a command."""

    SLEEP = 0x00
    QUIT = 0x01
    INIT_DB = 0x02
    QUERY = 0x03
    FIELD_LIST = 0x04
    CREATE_DB = 0x05
    DROP_DB = 0x06
    REFRESH = 0x07
    SHUTDOWN = 0x08
    STATISTICS = 0x09
    PROCESS_INFO = 0x0A
    CONNECT = 0x0B
    PROCESS_KILL = 0x0C
    DEBUG = 0x0D
    PING = 0x0E
    TIME = 0x0F
    DELAYED_INSERT = 0x10
    CHANGE_USER = 0x11
    BINLOG_DUMP = 0x12
    TABLE_DUMP = 0x13
    CONNECT_OUT = 0x14
    REGISTER_REPLICA = 0x15
    STMT_PREPARE = 0x16
    STMT_EXECUTE = 0x17
    STMT_SEND_LONG_DATA = 0x18
    STMT_CLOSE = 0x19
    STMT_RESET = 0x1A
    SET_OPTION = 0x1B
    STMT_FETCH = 0x1C
    DAEMON = 0x1D
    BINLOG_DUMP_GTID = 0x1E
    RESET_CONNECTION = 0x1F
    CLONE = 0x20
    SUBSCRIBE_GROUP_REPLICATION_STREAM = 0x21
