"""The source's settings, kept for when it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from binlogd.errors import StoreUnreadable
from binlogd.store.source_facts import FILE, SourceSettings, load
from tests.store.support import Quick, Recording


def test_there_and_back(tmp_path: Path) -> None:
    settings = SourceSettings({"gtid_mode": "ON", "lower_case_table_names": "1", "sql_mode": "ä'\"\n", "unknown": "x"})
    settings.save(Quick(), tmp_path)
    assert load(tmp_path) == settings
    assert settings.for_facts() == {"gtid_mode": "ON", "lower_case_table_names": 1, "sql_mode": "ä'\"\n"}


def test_a_source_without_gtids() -> None:
    assert SourceSettings({}).for_facts() == {"gtid_mode": "OFF"}


def test_it_is_written_when_it_changes(tmp_path: Path) -> None:
    disk = Recording()
    SourceSettings({"gtid_mode": "ON"}).save(disk, tmp_path)
    assert disk.steps[-1] == "sync folder"
    disk.steps.clear()
    SourceSettings({"gtid_mode": "ON"}).save(disk, tmp_path)
    assert disk.steps == []
    SourceSettings({"gtid_mode": "OFF"}).save(disk, tmp_path)
    assert disk.steps
    assert load(tmp_path) == SourceSettings({"gtid_mode": "OFF"})


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"{", b"\xff", b'"x"', b'{"auto_increment_offset": "one"}', b"{}}"]
)
def test_what_cannot_be_read_is_as_good_as_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert load(tmp_path) is None
    SourceSettings({"gtid_mode": "ON"}).save(Quick(), tmp_path)
    assert load(tmp_path) == SourceSettings({"gtid_mode": "ON"})


def test_nothing_is_kept(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    with pytest.raises(StoreUnreadable, match=FILE):
        SourceSettings({}).save(Quick(), tmp_path / "nowhere")
