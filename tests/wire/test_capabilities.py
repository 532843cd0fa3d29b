"""binlogd.wire.capabilities: the numbers, as a real client and a real server sent them."""

from __future__ import annotations

from binlogd.wire.capabilities import Capability, Command


def test_flags_are_the_bits_of_mysql_com_h() -> None:
    assert Capability(0x0200) is Capability.PROTOCOL_41
    assert Capability(0x0800) is Capability.SSL
    assert Capability(0x8000) is Capability.SECURE_CONNECTION
    assert Capability(0x00080000) is Capability.PLUGIN_AUTH
    assert Capability(0x01000000) is Capability.DEPRECATE_EOF
    assert [flag.value.bit_length() - 1 for flag in Capability] == list(range(32))


def test_commands_are_numbered_without_a_gap() -> None:
    assert [command.value for command in Command] == list(range(0x22))
    assert (Command.BINLOG_DUMP, Command.REGISTER_REPLICA, Command.BINLOG_DUMP_GTID) == (0x12, 0x15, 0x1E)
