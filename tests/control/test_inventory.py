"""The stored files, condensed and listed; a finished file's .idx is read once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from binlogd.binlog.gtid import GtidSet
from binlogd.control import inventory
from binlogd.control.inventory import MOST_ALL, MOST_CELLS, MOST_GTIDS, MOST_LISTED, Inventory
from binlogd.store.disk import Disk
from binlogd.store.index import Summary, read_recorded, write_index
from binlogd.store.layout import DataFolder, Timeline

UUIDS = [f"0000000{number}-0000-0000-0000-000000000001" for number in range(1, 10)]
SIZE = 100


def status(file: str = "", position: int = 0, damaged: tuple[tuple[int, str], ...] = ()) -> dict[str, Any]:
    told = [{"timeline": number, "file": name} for number, name in damaged]
    store = {"published": {"file": file, "position": position}, "damaged": told}
    return {"store": store, "source": {"last_event_time": 5000}}


def finished(timeline: Timeline, number: int, gtids: str = "") -> str:
    """A finished file of SIZE bytes."""
    name = f"mysql-bin.{number:06d}"
    (timeline.path / name).write_bytes(bytes(SIZE))
    gtids = gtids or f"{timeline.source_uuid}:{number}"
    summary = Summary(name, SIZE, 1000 + number, 2000 + number, 0, GtidSet.parse(gtids), 3, 1, "9.7.4")
    write_index(Disk(), timeline.path, summary, b"")
    return name


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path)
    folder.prepare(Disk())
    return folder


def timeline(folder: DataFolder, files: int) -> Timeline:
    number = len(folder.timelines())
    made = folder.new_timeline(Disk(), UUIDS[number])
    for file in range(1, files + 1):
        finished(made, file)
    return made


def test_an_empty_store(folder: DataFolder) -> None:
    assert Inventory(folder).condensed(status()) == {"files": 0, "bytes": 0, "timelines": []}


def test_each_file_is_a_cell_and_the_newest_counts_as_far_as_it_is_published(folder: DataFolder) -> None:
    timeline(folder, 2)
    timeline(folder, 3)
    found = Inventory(folder).condensed(status("mysql-bin.000003", 60))
    assert (found["files"], found["bytes"]) == (5, 4 * SIZE + 60)
    first, second = found["timelines"]
    assert (first["number"], first["source_uuid"], first["files"], first["transactions"]) == (1, UUIDS[0], 2, 6)
    assert [cell["state"] for cell in first["cells"]] == ["finished", "finished"]
    assert [cell["state"] for cell in second["cells"]] == ["finished", "finished", "newest"]
    assert second["cells"][2] == {
        "offset": 2,
        "first": "mysql-bin.000003",
        "last": "mysql-bin.000003",
        "files": 1,
        "bytes": 60,
        "transactions": 0,
        "first_time": None,
        "last_time": 5000,
        "state": "newest",
    }


def test_damage_is_shown(folder: DataFolder) -> None:
    made = timeline(folder, 4)
    (made.path / "mysql-bin.000001").write_bytes(bytes(SIZE - 1))
    told = status(damaged=((1, "mysql-bin.000003"),))
    (cells,) = (one["cells"] for one in Inventory(folder).condensed(told)["timelines"])
    assert [cell["state"] for cell in cells] == ["damaged", "finished", "damaged", "newest"]


def test_damage_is_of_one_timeline(folder: DataFolder) -> None:
    """A name may be that of several files."""
    timeline(folder, 2)
    timeline(folder, 2)
    found = Inventory(folder).condensed(status(damaged=((1, "mysql-bin.000001"),)))["timelines"]
    assert [[cell["state"] for cell in one["cells"]] for one in found] == [
        ["damaged", "finished"],
        ["finished", "newest"],
    ]


def test_a_look_answers_for_a_while(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks often costs no more than who asks once."""
    clock = 100.0
    monkeypatch.setattr(inventory, "time", SimpleNamespace(monotonic=lambda: clock))
    made = timeline(folder, 2)
    stored = Inventory(folder, keep=1.0)
    assert stored.listed(status(), 1, 0, 9)["files"] == 2
    finished(made, 3)
    clock += 0.9
    assert stored.listed(status(), 1, 0, 9)["files"] == 2
    assert stored.condensed(status())["files"] == 2
    clock += 0.2
    assert stored.listed(status(), 1, 0, 9)["files"] == 3


def test_many_files_are_condensed_and_none_is_left_out(folder: DataFolder) -> None:
    timeline(folder, 2 * MOST_CELLS + 1)
    found = Inventory(folder).condensed(status())["timelines"][0]
    assert len(found["cells"]) <= MOST_CELLS
    assert sum(cell["files"] for cell in found["cells"]) == 2 * MOST_CELLS + 1
    assert found["cells"][-1]["state"] == "newest"
    for before, cell in zip(found["cells"], found["cells"][1:], strict=False):
        assert cell["offset"] == before["offset"] + before["files"]


def test_many_timelines_have_fewer_cells_each(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MOST_ALL", 8)
    for _ in range(4):
        timeline(folder, 5)
    found = Inventory(folder).condensed(status())["timelines"]
    assert [len(one["cells"]) for one in found] == [2, 2, 2, 2]
    assert MOST_ALL >= MOST_CELLS


def test_a_list_is_given_page_by_page(folder: DataFolder) -> None:
    made = timeline(folder, MOST_LISTED + 5)
    finished(made, 3, gtids=",".join(f"{uuid}:1-3:5-7:9-11" for uuid in UUIDS))
    stored = Inventory(folder)
    page = stored.listed(status(), 1, 1, 3)
    assert (page["files"], page["offset"]) == (MOST_LISTED + 5, 1)
    assert [file["name"] for file in page["list"]] == [f"mysql-bin.{number:06d}" for number in (2, 3, 4)]
    assert page["list"][0]["gtids"] == f"{UUIDS[0]}:2"
    assert len(page["list"][1]["gtids"]) == MOST_GTIDS and page["list"][1]["gtids"].endswith("…")
    assert len(stored.listed(status(), 1, 0, 10**9)["list"]) == MOST_LISTED
    assert stored.listed(status(), 1, 10**9, 5)["list"] == []
    assert stored.listed(status(), 7, 0, 5)["files"] == 0


def test_an_idx_is_read_once_and_one_that_is_missing_again(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    made = timeline(folder, 3)
    (made.path / "mysql-bin.000002.idx").unlink()
    reads: list[str] = []

    def counting(path: Path) -> Summary | None:
        reads.append(path.name)
        return read_recorded(path)

    monkeypatch.setattr(inventory, "read_recorded", counting)
    stored = Inventory(folder)
    assert stored.condensed(status())["timelines"][0]["transactions"] == 3
    assert reads == ["mysql-bin.000001", "mysql-bin.000002"]
    finished(made, 2)
    assert stored.condensed(status())["timelines"][0]["transactions"] == 6
    assert stored.condensed(status())["timelines"][0]["transactions"] == 6
    assert reads == ["mysql-bin.000001", "mysql-bin.000002", "mysql-bin.000002"]
    (made.path / "mysql-bin.000001").unlink()
    assert stored.condensed(status())["files"] == 2
    assert len(stored._kept) == 1
