"""HOST:PORT in all the forms people write, and none of the ambiguous ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogd.config.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("db1:3306", "db1", 3306),
        ("db-1.example.com:1", "db-1.example.com", 1),
        ("mysql_source:3306", "mysql_source", 3306),
        ("10.0.0.5:65535", "10.0.0.5", 65535),
        ("[::1]:3306", "::1", 3306),
        ("[fe80::1%eth0]:3306", "fe80::1%eth0", 3306),
    ],
)
def test_reads_and_writes(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == (host, port)
    assert str(address) == text


@pytest.mark.parametrize(("text", "host"), [("db1", "db1"), ("[::1]", "::1")])
def test_default_port(text: str, host: str) -> None:
    assert parse_address(text, default_port=3306) == Address(host, 3306)
    with pytest.raises(ValueError, match="port is missing"):
        parse_address(text)


def test_port_0_is_a_listeners() -> None:
    assert parse_address("localhost:0", lowest_port=0).port == 0
    with pytest.raises(ValueError, match="between 1 and 65535"):
        parse_address("localhost:0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":3306",
        "db1:",
        "db1:x",
        "db1:65536",
        "db1:-1",
        "db1:+1",
        "db1:１",
        "db1:0003306",
        "::1",
        "::1:3306",
        "[::1",
        "[::1]3306",
        "[db1]:3306",
        "[]:1",
        "a b:1",
        "a/b:1",
        "u@h:1",
        "-h:1",
        "h\n:1",
        "h" * 254 + ":1",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        parse_address(text, default_port=3306)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert parse_address(str(address)) == address
