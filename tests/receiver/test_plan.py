"""Where a dump begins, and which sources are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from binlogd.errors import SourceRefused
from binlogd.receiver.plan import SourceFacts, Start, StoreFacts, check_identity, plan_start, timeline_name
from tests.binlog.making import UUID_A, UUID_B

FACTS = SourceFacts(server_version="8.0.36", server_id=1, server_uuid=UUID_A, checksum="CRC32", gtid_mode="ON")
FILE = "mysql-bin.000007"


def stored(position: int, uuid: str = UUID_A) -> StoreFacts:
    return StoreFacts(uuid, FILE, position)


@pytest.mark.parametrize(
    ("start", "file"),
    [("oldest", ""), ("current", "mysql-bin.000009"), ("mysql-bin.000003", "mysql-bin.000003")],
)
@pytest.mark.parametrize("store", [None, StoreFacts(UUID_A, "", 0)], ids=["no store", "a timeline without a file"])
def test_an_empty_store_begins_as_configured(start: str, file: str, store: StoreFacts | None) -> None:
    planned = plan_start(FACTS, store, start=start, current="mysql-bin.000009")
    assert planned == Start(file, 4, "COM_BINLOG_DUMP")
    assert planned.whole


@pytest.mark.parametrize("start", ["oldest", "current", "mysql-bin.000001"])
@pytest.mark.parametrize("position", [5, 126, 2**31, 2**32 - 1])
@pytest.mark.parametrize("gtid_mode", ["ON", "OFF"])
def test_a_store_goes_on_where_it_ends_whatever_is_configured(start: str, position: int, gtid_mode: str) -> None:
    planned = plan_start(replace(FACTS, gtid_mode=gtid_mode), stored(position), start=start, current="")
    assert planned == Start(FILE, position, "COM_BINLOG_DUMP")
    assert not planned.whole


@pytest.mark.parametrize("position", [2**32, 2**32 + 1, 2**40])
def test_behind_4_gib_only_the_other_command_can_ask(position: int) -> None:
    assert plan_start(FACTS, stored(position), start="oldest", current="") == Start(
        FILE, position, "COM_BINLOG_DUMP_GTID"
    )


@pytest.mark.parametrize("gtid_mode", ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", ""])
def test_behind_4_gib_without_gtids(gtid_mode: str) -> None:
    with pytest.raises(SourceRefused, match="behind 4 GiB") as caught:
        plan_start(replace(FACTS, gtid_mode=gtid_mode), stored(2**32), start="oldest", current="")
    assert "gtid_mode=ON" in caught.value.hint


@pytest.mark.parametrize("position", [0, 500, 2**33])
def test_another_source_is_refused(position: int) -> None:
    store = StoreFacts(UUID_B, FILE if position else "", position)
    with pytest.raises(SourceRefused, match=f"history of source {UUID_B}; this one is {UUID_A}"):
        plan_start(FACTS, store, start="oldest", current="")


def test_a_source_without_a_uuid_is_known_by_its_id() -> None:
    facts = replace(FACTS, server_uuid="", server_id=42)
    assert timeline_name(facts) == "server-42"
    assert plan_start(facts, stored(500, "server-42"), start="oldest", current="").position == 500
    with pytest.raises(SourceRefused, match="server-42"):
        plan_start(facts, stored(500, "server-41"), start="oldest", current="")


def test_identities() -> None:
    check_identity(FACTS, server_id=2, server_uuid=UUID_B)
    with pytest.raises(SourceRefused, match="our own server_id, 1"):
        check_identity(FACTS, server_id=1, server_uuid=UUID_B)
    with pytest.raises(SourceRefused, match="our own server_uuid"):
        check_identity(FACTS, server_id=2, server_uuid=UUID_A)
    check_identity(replace(FACTS, server_uuid=""), server_id=2, server_uuid=UUID_A)
