"""``binlogd verify`` as people and programs see it. What it finds is tested in tests/store/test_verify.py."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from binlogd.cli import bar
from binlogd.control.sockets import RECEIVER, ControlServer
from binlogd.store.layout import DataFolder
from tests.binlog.making import OFF, UUID_A, Log
from tests.cli.support import NEWEST, binlogd, make_store, the_error
from tests.store.support import Quick

FIRST = "mysql-bin.000001"


def sound_store(data_dir: Path) -> Path:
    """As a receiver leaves it; the timeline's folder."""
    from binlogd.store.recovery import recover

    timeline = make_store(data_dir)
    recover(DataFolder(data_dir), Quick())
    return timeline


def damage(path: Path) -> int:
    """A flipped bit; where."""
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at] ^= 1
    path.write_bytes(data)
    return at


def test_a_sound_store(tmp_path: Path) -> None:
    sound_store(tmp_path)
    result = binlogd("verify", "--data-dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    assert line.startswith("2 files, ")
    assert line.endswith(" 6 transactions: no errors, no warnings")


def test_what_recovery_cut_off_is_a_note(tmp_path: Path) -> None:
    timeline = sound_store(tmp_path)
    copy = timeline / f"{NEWEST}.cut-1234"
    copy.write_bytes(b"something")
    for arguments in ((), ("--repair",)):
        result = binlogd("verify", "--data-dir", str(tmp_path), *arguments)
        assert (result.returncode, result.stderr) == (0, "")
        line, summary = result.stdout.splitlines()
        name = f"{timeline.name}/{copy.name}"
        assert line.startswith(f"note      {name}  9 bytes that recovery cut off {NEWEST} at 1234, behind a bad event")
        assert "it may be the only copy of a transaction" in line
        assert summary.endswith(": no errors, no warnings")
    result = binlogd("verify", "--json", "--data-dir", str(tmp_path))
    report = json.loads(result.stdout)
    assert (result.returncode, report["sound"]) == (0, True)
    assert [(it["level"], it["kind"], it["path"]) for it in report["findings"]] == [("note", "cut", str(copy))]
    assert copy.exists()


def test_json(tmp_path: Path) -> None:
    timeline = sound_store(tmp_path)
    at = damage(timeline / FIRST)
    result = binlogd("verify", "--json", "--data-dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (1, "")
    report = json.loads(result.stdout)
    (finding,) = report.pop("findings")
    assert report == {
        "store": str(tmp_path),
        "sound": False,
        "files": 2,
        "bytes": sum((timeline / name).stat().st_size for name in (FIRST, NEWEST)),
        "transactions": report["transactions"],
        "without_checksums": [],
    }
    assert finding == {
        "level": "error",
        "kind": "event",
        "timeline": 1,
        "name": FIRST,
        "path": str(timeline / FIRST),
        "offset": finding["offset"],
        "event": "Write_rows",
        "message": finding["message"],
        "hint": finding["hint"],
    }
    assert finding["offset"] < at
    assert "fails its CRC-32" in finding["message"]
    assert "--repair" in finding["hint"]


def test_text_names_the_file_the_place_the_event_and_what_to_do(tmp_path: Path) -> None:
    timeline = sound_store(tmp_path)
    damage(timeline / FIRST)
    result = binlogd("verify", "--data-dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (1, "")
    line, summary = result.stdout.splitlines()
    assert line.startswith(f"error     {timeline.name}/{FIRST} at ")
    assert "(Write_rows)  the event at " in line
    assert " — binlogd verify --repair fetches the file again" in line
    assert summary.endswith(": 1 error, no warnings")


def test_a_warning_is_no_failure(tmp_path: Path) -> None:
    timeline = sound_store(tmp_path)
    (timeline / "notes").write_text("mine")
    result = binlogd("verify", "--data-dir", str(tmp_path))
    assert result.returncode == 0
    assert "warning   " in result.stdout
    assert "no errors, 1 warning\n" in result.stdout


def test_files_without_checksums_are_named(tmp_path: Path) -> None:
    timeline = sound_store(tmp_path)
    log = Log(OFF).begin_file(f"{UUID_A}:1-4").transaction(5)
    (timeline / NEWEST).write_bytes(log.data)
    result = binlogd("verify", "--data-dir", str(tmp_path))
    assert result.returncode == 0
    assert "1 of them without checksums (binlog_checksum=NONE)" in result.stdout.splitlines()[-1]
    assert NEWEST in result.stdout.splitlines()[-1]


def test_some_files_by_name_and_by_path(tmp_path: Path) -> None:
    timeline = sound_store(tmp_path)
    damage(timeline / FIRST)
    sound = binlogd("verify", NEWEST, "--data-dir", str(tmp_path))
    assert sound.returncode == 0 and sound.stdout.startswith("1 file, ")
    for file in (FIRST, str(timeline / FIRST)):
        assert binlogd("verify", NEWEST, file, "--data-dir", str(tmp_path)).returncode == 1
    error = the_error(binlogd("verify", "mysql-bin.000009", "--data-dir", str(tmp_path)), 2)
    assert "holds no mysql-bin.000009" in error


def test_no_store_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    assert "there is no store" in the_error(binlogd("verify", "--data-dir", str(tmp_path)), 2)
    timeline = sound_store(tmp_path)
    (timeline / FIRST).unlink()
    (timeline / FIRST).mkdir()
    assert FIRST in the_error(binlogd("verify", "--data-dir", str(tmp_path)), 4)


def test_repair_of_indexes_needs_no_source(tmp_path: Path) -> None:
    timeline = sound_store(tmp_path)
    before = {path.name: path.read_bytes() for path in timeline.iterdir()}
    (timeline / f"{FIRST}.idx").write_bytes(before[f"{FIRST}.idx"].replace(b"000001", b"000007"))
    (timeline / "mysql-bin.index").unlink()
    result = binlogd("verify", "--repair", "--data-dir", str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("repaired") == 2
    assert result.stdout.endswith("no errors, no warnings\n")
    assert {path.name: path.read_bytes() for path in timeline.iterdir()} == before


def test_repair_without_a_source_says_so(tmp_path: Path) -> None:
    timeline = sound_store(tmp_path)
    damage(timeline / FIRST)
    error = the_error(binlogd("verify", "--repair", "--data-dir", str(tmp_path), cwd=tmp_path), 2)
    assert "source" in error
    nowhere = binlogd("verify", "--repair", "--data-dir", str(tmp_path), "--source", "mysql://repl:secret@127.0.0.1:1")
    assert nowhere.returncode == 1
    assert "not mended  mysql-bin.000001  cannot connect to the source at 127.0.0.1:1" in nowhere.stdout
    assert "secret" not in nowhere.stdout + nowhere.stderr


@pytest.mark.parametrize("slow", [False, True])
def test_progress_on_a_terminal_once_it_takes_long(tmp_path: Path, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sound_store(tmp_path)
    patience = f"from binlogd.cli import bar; bar.PATIENCE = {0.0 if slow else bar.PATIENCE}"
    run = f"{patience}; from binlogd.cli.main import main; raise SystemExit(main())"
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", run, "verify", "--data-dir", str(tmp_path)],
            stderr=theirs,
            stdout=subprocess.PIPE,
            env=os.environ | {"TERM": "xterm"},
            timeout=60,
            check=False,
        )
        os.set_blocking(ours, False)
        try:
            shown = os.read(ours, 65536)
        except BlockingIOError:
            shown = b""
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert (b"mysql-bin.0000" in shown) is slow


def test_beside_a_receiver_that_does_not_know_its_store_yet(tmp_path: Path) -> None:
    sound_store(tmp_path)

    async def verified() -> subprocess.CompletedProcess[str]:
        control = ControlServer(tmp_path / RECEIVER, lambda: {"publication": None}, None)
        await control.start()
        try:
            return await asyncio.to_thread(binlogd, "verify", "--data-dir", str(tmp_path))
        finally:
            await control.stop()

    result = asyncio.run(verified())
    assert (result.returncode, result.stderr) == (0, "")
