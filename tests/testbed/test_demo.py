"""``make demo``: its judgement can fail, its run leaves nothing, and its exit code says what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from testbed import demo
from testbed.demo import Check, Observed, SemiSync, StoredFile, judge, judge_leftovers
from testbed.distributions import Distribution

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT = 180.0  # seconds; 10 on an idle machine

UUID = "48a1f00c-e6e5-11f1-a1c2-02fc00000001"
FINISHED = StoredFile("mysql-bin.000001", finished=True, size=900, source_size=900, same=True)
NEWEST = StoredFile("mysql-bin.000002", finished=False, size=500, source_size=620, same=True)
GOOD = Observed(
    confirmed=frozenset(range(1, 11)),
    uncertain=frozenset({11, 12}),
    rows_before=6,
    at_replica=frozenset(range(1, 12)),
    checksum=77,
    journal_checksum=77,
    semi_sync=SemiSync(clients=1, yes_tx=5, no_tx=0),
    files=(FINISHED, NEWEST),
    gtids=f"{UUID}:1-13",
    gtids_missing="",
    binlogd_exit=0,
)


def failing(seen: Observed) -> list[str]:
    return [check.what for check in judge(seen) if not check.holds]


def test_all_holds_when_all_is_as_promised() -> None:
    assert failing(GOOD) == []
    assert failing(replace(GOOD, at_replica=GOOD.confirmed)) == []
    assert failing(replace(GOOD, at_replica=GOOD.confirmed | GOOD.uncertain)) == []


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (replace(GOOD, semi_sync=SemiSync(2, 5, 0)), "binlogd alone acknowledged"),
        (replace(GOOD, semi_sync=SemiSync(1, 0, 0)), "binlogd alone acknowledged"),
        (replace(GOOD, semi_sync=SemiSync(1, 5, 1)), "binlogd alone acknowledged"),
        (replace(GOOD, rows_before=10), "the replica was behind"),
        (replace(GOOD, at_replica=GOOD.at_replica - {7}), "now it has every committed row"),
        (replace(GOOD, at_replica=GOOD.at_replica | {99}), "and none that nobody committed"),
        (replace(GOOD, checksum=78), "CHECKSUM TABLE, replica, journal"),
        (replace(GOOD, gtids_missing=f"{UUID}:13"), "it executed all GTIDs of binlogd"),
        (replace(GOOD, gtids=""), "it executed all GTIDs of binlogd"),
        (replace(GOOD, files=(replace(FINISHED, same=False), NEWEST)), "finished files equal the source's"),
        (replace(GOOD, files=(replace(FINISHED, size=899), NEWEST)), "finished files equal the source's"),
        (replace(GOOD, files=(NEWEST,)), "finished files equal the source's"),
        (replace(GOOD, files=(FINISHED, replace(NEWEST, same=False))), "the newest too, as far as sent"),
        (replace(GOOD, files=(FINISHED, replace(NEWEST, size=621))), "the newest too, as far as sent"),
        (replace(GOOD, files=(FINISHED,)), "the newest too, as far as sent"),
        (replace(GOOD, binlogd_exit=4), "binlogd stopped in order"),
    ],
)
def test_each_broken_promise_fails_its_own_check(seen: Observed, what: str) -> None:
    assert failing(seen) == [what]


def test_nothing_committed_at_all_proves_nothing() -> None:
    empty = replace(GOOD, confirmed=frozenset(), at_replica=frozenset(), rows_before=0)
    assert "now it has every committed row" in failing(empty)


def test_the_figures_shown_are_those_observed() -> None:
    seen = {check.what: check.seen for check in judge(replace(GOOD, at_replica=GOOD.at_replica - {7}))}
    assert seen["now it has every committed row"] == "9 of 10, 1 missing"
    assert seen["and none that nobody committed"] == "1 of 2 cut off are in, 0 others"
    assert seen["binlogd alone acknowledged"] == "clients=1 yes_tx=5 no_tx=0"
    assert seen["it executed all GTIDs of binlogd"] == "1-13, missing: none"


def test_leftovers_are_seen(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert judge_leftovers([gone.pid], tmp_path / "removed").holds
    assert not judge_leftovers([gone.pid, os.getpid()], tmp_path / "removed").holds
    assert not judge_leftovers([gone.pid], tmp_path).holds


# ------------------------------------------------------------------------------------------------------- exit codes


@pytest.fixture
def handlers_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The demo changes signal handlers and makes a folder: here for one test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers_kept")
def test_a_check_that_fails_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("one", "seen", True), Check("other", "not seen", False)]
    monkeypatch.setattr(demo, "tell", lambda *_: checks)
    result = CliRunner().invoke(demo.main, [])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout and "1 of 2 checks FAILED" in result.stderr
    monkeypatch.setattr(demo, "tell", lambda *_: checks[:1])
    assert CliRunner().invoke(demo.main, []).exit_code == 0


# --------------------------------------------------------------------------------------------------- the whole story


def start_demo(tmp_path: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "testbed.demo", "--rows", "100"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def left_behind(tmp_path: Path) -> list[str]:
    """Folders of the demo or its servers, and processes that name the folder. Locks of ports stay on purpose."""
    folders = [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith("binlogd-testbed-ports-")]
    processes = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended meanwhile
        if any(os.fsencode(tmp_path) in word for word in words):
            processes.append(b" ".join(words).decode(errors="replace"))
    return folders + processes


@pytest.mark.servers
def test_the_story_holds_and_leaves_nothing(tmp_path: Path, mysql: Distribution) -> None:
    # The user's own configuration, were it not hidden, would have it listen elsewhere.
    process = start_demo(tmp_path, BINLOGD_SOURCE__SEMI_SYNC="false", BINLOGD_CONFIG="/nonexistent")
    out, err = process.communicate(timeout=RUN_TIMEOUT)
    assert process.returncode == 0, out + err
    assert "All 10 checks hold" in out and "FAILED" not in out
    assert "CHANGE REPLICATION SOURCE TO SOURCE_HOST=" in out and "$ binlogd run --source mysql://" in out
    assert left_behind(tmp_path) == []


@pytest.mark.servers
@pytest.mark.parametrize(
    "moment", ["2. ", pytest.param("4. ", marks=pytest.mark.slow), pytest.param("6. ", marks=pytest.mark.slow)]
)
def test_ctrl_c_stops_and_removes_everything(tmp_path: Path, mysql: Distribution, moment: str) -> None:
    process = start_demo(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(moment):
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all that it started as well
    _, err = process.communicate(timeout=RUN_TIMEOUT)
    assert process.returncode == 130, err
    assert "interrupted" in err and "Traceback" not in err
    assert left_behind(tmp_path) == []


def test_a_server_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    process = start_demo(tmp_path, BINLOGD_MYSQLD=str(tmp_path / "none"))
    out, err = process.communicate(timeout=RUN_TIMEOUT)
    assert process.returncode == 1 and out == ""
    assert err.startswith("demo: BINLOGD_MYSQLD names") and err.count("\n") == 1
    assert left_behind(tmp_path) == []
