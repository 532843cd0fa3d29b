"""Where a dump begins, and which sources are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from binlogd.errors import SourceRefused
from binlogd.receiver.plan import SourceFacts, Start, StoreFacts, check_identity, plan_resume, timeline_name
from tests.binlog.making import UUID_A, UUID_B

FACTS = SourceFacts(server_version="8.0.36", server_id=1, server_uuid=UUID_A, checksum="CRC32", gtid_mode="ON")
FILE = "mysql-bin.000007"


def stored(position: int, uuid: str = UUID_A) -> StoreFacts:
    return StoreFacts(uuid, FILE, position)


@pytest.mark.parametrize("position", [5, 126, 2**31, 2**32 - 1])
@pytest.mark.parametrize("gtid_mode", ["ON", "OFF"])
def test_a_store_goes_on_where_it_ends(position: int, gtid_mode: str) -> None:
    planned = plan_resume(replace(FACTS, gtid_mode=gtid_mode), stored(position))
    assert planned == Start(FILE, position, "COM_BINLOG_DUMP")
    assert not planned.whole


@pytest.mark.parametrize("position", [2**32, 2**32 + 1, 2**40])
def test_behind_4_gib_only_the_other_command_can_ask(position: int) -> None:
    assert plan_resume(FACTS, stored(position)) == Start(FILE, position, "COM_BINLOG_DUMP_GTID")


@pytest.mark.parametrize("gtid_mode", ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", ""])
def test_behind_4_gib_without_gtids(gtid_mode: str) -> None:
    with pytest.raises(SourceRefused, match="behind 4 GiB") as caught:
        plan_resume(replace(FACTS, gtid_mode=gtid_mode), stored(2**32))
    assert "gtid_mode=ON" in caught.value.hint


def test_a_source_without_a_uuid_is_known_by_its_id() -> None:
    facts = replace(FACTS, server_uuid="", server_id=42)
    assert timeline_name(facts) == "server-42"
    assert plan_resume(facts, stored(500, "server-42")).position == 500


def test_identities() -> None:
    check_identity(FACTS, server_id=2, server_uuid=UUID_B)
    with pytest.raises(SourceRefused, match="our own server_id, 1"):
        check_identity(FACTS, server_id=1, server_uuid=UUID_B)
    with pytest.raises(SourceRefused, match="our own server_uuid"):
        check_identity(FACTS, server_id=2, server_uuid=UUID_A)
    check_identity(replace(FACTS, server_uuid=""), server_id=2, server_uuid=UUID_A)
