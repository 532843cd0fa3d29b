"""Names and places in the data folder, and the identity that is kept there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from binlogd.errors import SourceRefused, StoreDamaged, StoreUnreadable
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder, Identity, binlog_base, binlog_number, is_binlog_name
from tests.binlog.making import UUID_A, UUID_B
from tests.store.support import Quick, make_store


@pytest.mark.parametrize(
    "name", ["mysql-bin.000001", "binlog.999999", "binlog.1000000", "a.b.c.000007", "log bin.000001", "ä.000001"]
)
def test_names_of_binary_logs(name: str) -> None:
    assert is_binlog_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "mysql-bin",
        "mysql-bin.00001",
        "mysql-bin.index",
        "mysql-bin.000001.idx",
        "mysql-bin.~rec~",
        ".mysql-bin.000001",
        ".mysql-bin.000001.new",
        ".000001",
        "../mysql-bin.000001",
        "a/b.000001",
        "/b.000001",
        "b\0.000001",
        "b.000001 ",
        "b.00000x",
        "x" * 300 + ".000001",
        "x" * 240 + ".000001",
        "ä" * 120 + ".000001",
    ],
)
def test_other_names(name: str) -> None:
    assert not is_binlog_name(name)


def test_parts_of_names() -> None:
    assert binlog_number("mysql-bin.000042") == 42
    assert binlog_number("a.b.1000000") == 1_000_000
    assert binlog_base("a.b.000001") == "a.b"


def test_binary_logs_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["b.000002", "b.1000000", "b.999999", "b.000010"]
    extra = ["b.index", "b.000002.idx", ".b.000003.new", "source.json"]
    folder = make_store(tmp_path, dict.fromkeys(names + extra, b""))
    assert folder.timelines()[0].binlogs() == ["b.000002", "b.000010", "b.999999", "b.1000000"]


def test_what_is_unfinished(tmp_path: Path) -> None:
    unfinished = [".b.000002.new", ".b.index.new", "b.000001.marks", "b.000001.synced"]
    folder = make_store(tmp_path, dict.fromkeys(["b.000001", "b.000001.idx", "b.index", *unfinished], b""))
    timeline = folder.timelines()[0]
    (timeline.path / ".snapshot").mkdir()
    (timeline.path / "old.marks").mkdir()
    assert [path.name for path in timeline.temporaries("b.000002")] == unfinished
    assert [path.name for path in timeline.temporaries("b.000001")] == unfinished[:-1]


def test_a_stray_name_that_is_no_utf_8(tmp_path: Path) -> None:
    folder = make_store(tmp_path, {"b.000001": b""})
    timeline = folder.timelines()[0]
    with open(os.fsencode(timeline.path) + b"/\xff\xfe", "wb"):
        pass
    assert timeline.binlogs() == ["b.000001"]


def test_timelines_come_in_their_order_and_nothing_else_does(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    for name in (f"0010-{UUID_A}", f"0002-{UUID_B}", "0003-server-7", f"10000-{UUID_A}", "1-x", "junk", "0004-", ".x"):
        (folder.binlogs / name).mkdir()
    (folder.binlogs / f"0005-{UUID_A}").write_bytes(b"")
    assert [(found.number, found.source_uuid) for found in folder.timelines()] == [
        (2, UUID_B),
        (3, "server-7"),
        (10, UUID_A),
        (10000, UUID_A),
    ]
    assert folder.new_timeline(Quick(), "server-8").path.name == "10001-server-8"


def test_a_timeline_that_got_no_file_is_taken_again_but_only_behind_those_that_did(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    for name in (f"0001-{UUID_A}", f"0002-{UUID_B}", f"0003-{UUID_A}"):
        (folder.binlogs / name).mkdir()
    assert folder.new_timeline(Quick(), UUID_B).number == 2
    (folder.binlogs / f"0002-{UUID_B}" / "binlog.000001").touch()
    assert folder.new_timeline(Quick(), UUID_A).number == 3
    assert folder.new_timeline(Quick(), UUID_B).number == 4


def test_the_first_timeline(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    assert not folder.exists()
    assert folder.timelines() == []
    folder.prepare(Disk())
    assert folder.exists()
    timeline = folder.new_timeline(Disk(), UUID_A)
    assert timeline.path == tmp_path / "data" / "binlogs" / f"0001-{UUID_A}"
    assert folder.timelines() == [timeline]
    assert timeline.binlogs() == []


@pytest.mark.parametrize("uuid", ["", "../../etc", "a/b", "..", "-", ".", "a b", "x\n", "x\0y"])
def test_a_source_that_calls_itself_something_else(tmp_path: Path, uuid: str) -> None:
    """Its name becomes a folder's."""
    folder = make_store(tmp_path / "data")
    with pytest.raises(SourceRefused, match="no server_uuid"):
        folder.new_timeline(Quick(), uuid)
    assert list(folder.binlogs.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnreadable, match="cannot make"):
        DataFolder(tmp_path / "file" / "data").prepare(Disk())
    with pytest.raises(StoreUnreadable):
        DataFolder(tmp_path / "file").prepare(Disk())


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anything, so the system's answer is made here."""
    folder = make_store(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StoreUnreadable, match="Permission denied"):
        folder.prepare(Disk())


# --- identity ---


def test_an_identity_is_made_once_and_kept(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    made = folder.identity(Disk())
    assert 0 < made.server_id < 2**32
    assert folder.identity(Disk()) == made
    text = folder.auto_cnf.read_text()
    assert text == f"[auto]\nserver-uuid={made.server_uuid}\nserver-id={made.server_id}\n"
    other = make_store(tmp_path / "other").identity(Disk())
    assert other.server_uuid != made.server_uuid


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    make_store(tmp_path)
    code = (
        "import sys; from pathlib import Path; from binlogd.store.disk import Disk;"
        "from binlogd.store.layout import DataFolder;"
        "sys.stdin.read(); print(DataFolder(Path(sys.argv[1])).identity(Disk()))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert len({process.communicate()[0] for process in processes}) == 1
    assert {process.returncode for process in processes} == {0}


def test_what_is_given_wins_and_is_kept(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    made = folder.identity(Disk())
    given = folder.identity(Disk(), server_id=77)
    assert given == Identity(made.server_uuid, 77)
    assert folder.identity(Disk()) == given
    assert folder.identity(Disk(), server_uuid=UUID_B) == Identity(UUID_B, 77)
    assert folder.identity(Disk()) == Identity(UUID_B, 77)


def test_a_kept_identity_is_not_written_again(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    folder.identity(Disk(), server_id=5)
    before = folder.auto_cnf.stat().st_ino
    folder.identity(Disk())
    folder.identity(Disk(), server_id=5)
    assert folder.auto_cnf.stat().st_ino == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[auto]\n",
        f"[auto]\nserver-uuid={UUID_A}\n",
        "[auto]\nserver-id=5\n",
        f"[auto]\nserver-uuid={UUID_A}\nserver-id=five\n",
        f"[auto]\nserver-uuid={UUID_A}\nserver-id=0\n",
        f"[auto]\nserver-uuid={UUID_A}\nserver-id=-1\n",
        f"[auto]\nserver-uuid={UUID_A}\nserver-id={2**32}\n",
        "[auto]\nserver-uuid=x\nserver-id=5\n",
        f"server-uuid={UUID_A}\nserver-id=5\n",
        f"[auto]\nserver-uuid={UUID_A}\nserver-uuid={UUID_A}\nserver-id=5\n",
        "\udcff",
        "[auto",
    ],
)
def test_a_damaged_identity_is_not_replaced_in_silence(tmp_path: Path, text: str) -> None:
    folder = make_store(tmp_path)
    folder.auto_cnf.write_bytes(os.fsencode(text))
    with pytest.raises(StoreDamaged, match=r"auto\.cnf"):
        folder.identity(Disk())
    assert folder.auto_cnf.read_bytes() == os.fsencode(text)


def test_an_identity_that_mysqld_wrote_and_a_person_completed(tmp_path: Path) -> None:
    folder = make_store(tmp_path)
    folder.auto_cnf.write_text(f"# note\n[auto]\nserver-uuid = {UUID_A.upper()}\nserver-id = 12\n[other]\nx=1\n")
    assert folder.identity(Disk()) == Identity(UUID_A, 12)
