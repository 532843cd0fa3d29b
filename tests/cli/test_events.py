"""``binlogd events`` over stores made byte by byte."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from binlogd.binlog.gtid import GtidSet
from binlogd.control.sockets import RECEIVER, ControlServer
from binlogd.store.publication import Publication
from tests.binlog.making import UUID_A, UUID_B
from tests.cli.support import NEWEST, binlogd, logs, make_store, the_error

FIRST = "mysql-bin.000001"


def test_a_line_an_event(tmp_path: Path) -> None:
    make_store(tmp_path)
    result = binlogd("events", FIRST, "--data-dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    header, *lines = result.stdout.splitlines()
    assert " ".join(header.split()) == "pos time event type server id end log pos info"
    assert [line.split()[2] for line in lines[:5]] == ["Format_desc", "Previous_gtids", "Gtid", "Query", "Table_map"]
    assert lines[2].endswith(f"SET @@SESSION.GTID_NEXT= '{UUID_A}:1'")
    assert lines[-1].endswith(f"  {NEWEST};pos=4")


def test_json_lines(tmp_path: Path) -> None:
    timeline = make_store(tmp_path)
    by_name = binlogd("events", "--json", FIRST, "--data-dir", str(tmp_path))
    by_path = binlogd("events", "--json", str(timeline / FIRST))
    assert by_name.stdout == by_path.stdout
    events = [json.loads(line) for line in by_name.stdout.splitlines()]
    assert [event["pos"] for event in events[1:]] == [event["end_log_pos"] for event in events[:-1]]
    assert events[-1]["end_log_pos"] == len(logs()[FIRST])
    third = events[3]
    some = binlogd(
        "events", "--json", str(timeline / FIRST), "--from", str(third["pos"] - 1), "--to", str(third["end_log_pos"])
    )
    assert [json.loads(line) for line in some.stdout.splitlines()] == [third]


def test_damage_is_named_behind_what_is_sound(tmp_path: Path) -> None:
    path = make_store(tmp_path) / FIRST
    whole = binlogd("events", "--json", FIRST, "--data-dir", str(tmp_path)).stdout.splitlines()
    offset = json.loads(whole[6])["pos"]
    data = bytearray(path.read_bytes())
    data[offset + 20] ^= 1
    path.write_bytes(data)
    result = binlogd("events", "--json", FIRST, "--data-dir", str(tmp_path))
    assert result.stdout.splitlines() == whole[:6]
    assert f"at {offset}: " in the_error(result, 4)
    path.write_bytes(b"nonsense" * 10)
    assert "does not begin like a binary log" in the_error(binlogd("events", str(path)), 4)


def test_which_file_is_meant(tmp_path: Path) -> None:
    make_store(tmp_path)
    other = tmp_path / "binlogs" / f"0002-{UUID_B}"
    other.mkdir()
    (other / FIRST).write_bytes(logs()[NEWEST][:-30])
    told = the_error(binlogd("events", FIRST, "--data-dir", str(tmp_path)), 2)
    assert f"0001:{FIRST}, 0002:{FIRST}" in told
    assert "the store holds no" in the_error(binlogd("events", "nope", "--data-dir", str(tmp_path)), 2)
    assert binlogd("events", f"0001:{FIRST}", "--data-dir", str(tmp_path)).returncode == 0
    for path in (tmp_path / "nowhere" / FIRST, other / FIRST / "x"):
        assert f"there is no file {path}" in the_error(binlogd("events", str(path)), 2)
    assert f"{other} is a folder" in the_error(binlogd("events", str(other)), 2)


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    make_store(tmp_path)
    command = f"{sys.executable} -m binlogd events {FIRST} --data-dir {tmp_path} | head -1"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_what_a_receiver_has_published_is_whole(tmp_path: Path) -> None:
    """Nothing more of it is shown; and where a bit of that is wrong it is damage."""
    path = make_store(tmp_path) / NEWEST
    events = [json.loads(line) for line in binlogd("events", "--json", str(path)).stdout.splitlines()]
    end = events[-2]["end_log_pos"]
    said = Publication(1, NEWEST, end, GtidSet(), GtidSet(), "").encode()

    async def told() -> subprocess.CompletedProcess[str]:
        control = ControlServer(tmp_path / RECEIVER, lambda: {"publication": said}, None)
        await control.start()
        try:
            return await asyncio.to_thread(binlogd, "events", "--json", NEWEST, "--data-dir", str(tmp_path))
        finally:
            await control.stop()

    assert [json.loads(line) for line in asyncio.run(told()).stdout.splitlines()] == events[:-1]
    data = bytearray(path.read_bytes())
    data[end - 10] ^= 1
    path.write_bytes(data)
    the_error(asyncio.run(told()), 4)


def test_the_newest_may_end_in_a_torn_event(tmp_path: Path) -> None:
    """Behind a kill, until a receiver starts: that is no damage. Of a finished file it is."""
    timeline = make_store(tmp_path)
    whole = binlogd("events", "--json", NEWEST, "--data-dir", str(tmp_path))
    for name in (FIRST, NEWEST):
        with open(timeline / name, "ab") as file:
            file.write(logs()[NEWEST][-40:-20])
    torn = binlogd("events", "--json", NEWEST, "--data-dir", str(tmp_path))
    assert (torn.returncode, torn.stdout) == (0, whole.stdout)
    assert f"ends at {len(logs()[NEWEST])}: what is there is no whole event" in torn.stderr
    the_error(binlogd("events", FIRST, "--data-dir", str(tmp_path)), 4)
    the_error(binlogd("events", str(timeline / NEWEST)), 4)
