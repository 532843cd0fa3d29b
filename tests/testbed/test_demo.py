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
from testbed.demo_checks import (
    Check,
    Connection,
    FirstHalf,
    Rows,
    SecondHalf,
    SemiSync,
    StoredFile,
    judge,
    judge_leftovers,
)
from testbed.distributions import Distribution

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT = 180.0  # seconds; 20 on an idle machine

OLD, NEW = "48a1f00c-e6e5-11f1-a1c2-02fc00000001", "59b2f00c-e6e5-11f1-a1c2-02fc00000001"
FINISHED = StoredFile("mysql-bin.000001", last=False, size=900, source_size=900, same=True)
LAST = StoredFile("mysql-bin.000002", last=True, size=500, source_size=620, same=True)
FIRST = FirstHalf(
    confirmed=frozenset(range(1, 11)),
    uncertain=frozenset({11, 12}),
    rows_before=6,
    at_standby=frozenset(range(1, 12)),
    semi_sync=SemiSync(clients=1, yes_tx=5, no_tx=0),
    gtids=f"{OLD}:1-13",
    gtids_missing="",
    files=(FINISHED, LAST),
)
EVERYWHERE = Rows(frozenset(range(1, 20)), 77)
SERVERS = {"standby": EVERYWHERE, "replica": EVERYWHERE, "source": EVERYWHERE}
CONNECTION = Connection(number=3, since=1.5, source_port=3307)
SECOND = SecondHalf(
    confirmed=frozenset(range(12, 20)),
    timelines=(OLD, NEW),
    sources=(OLD, NEW),
    followed_after=1.25,
    semi_sync=SemiSync(clients=1, yes_tx=4, no_tx=0),
    attached=(CONNECTION, CONNECTION),
    errant="",
    returned=True,
    rows=SERVERS,
    journal_checksum=77,
    gtids=f"{OLD}:1-13,{NEW}:1-9",
    gtids_missing=dict.fromkeys(SERVERS, ""),
    files=(FINISHED, LAST),
    binlogd_exit=0,
)


def failing(first: FirstHalf = FIRST, second: SecondHalf = SECOND) -> list[str]:
    return [check.what for check in judge(first, second) if not check.holds]


def at(server: str, rows: Rows) -> SecondHalf:
    return replace(SECOND, rows={**SERVERS, server: rows})


def test_all_holds_when_all_is_as_promised() -> None:
    assert failing() == []
    without, with_both = (frozenset(range(1, end)) for end in (11, 13))
    for landed in (without, with_both):
        rows = dict.fromkeys(SERVERS, Rows(landed | SECOND.confirmed, 77))
        assert failing(replace(FIRST, at_standby=landed), replace(SECOND, rows=rows)) == []
    assert failing(FIRST, replace(SECOND, errant=f"{OLD}:14", returned=False)) == []


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (replace(FIRST, semi_sync=SemiSync(2, 5, 0)), "binlogd alone acknowledged"),
        (replace(FIRST, semi_sync=SemiSync(1, 0, 0)), "binlogd alone acknowledged"),
        (replace(FIRST, semi_sync=SemiSync(1, 5, 1)), "binlogd alone acknowledged"),
        (replace(FIRST, rows_before=10), "the standby was behind"),
        (replace(FIRST, at_standby=FIRST.at_standby - {7}), "now it has every committed row"),
        (replace(FIRST, at_standby=FIRST.at_standby | {99}), "and none that nobody committed"),
        (replace(FIRST, gtids_missing=f"{OLD}:13"), "it executed all GTIDs of binlogd"),
        (replace(FIRST, gtids=""), "it executed all GTIDs of binlogd"),
        (replace(FIRST, files=(replace(FINISHED, same=False), LAST)), "finished files equal the source's"),
        (replace(FIRST, files=(replace(FINISHED, size=899), LAST)), "finished files equal the source's"),
        (replace(FIRST, files=(LAST,)), "finished files equal the source's"),
        (replace(FIRST, files=(FINISHED, replace(LAST, same=False))), "its last one, as far as sent"),
        (replace(FIRST, files=(FINISHED, replace(LAST, size=621))), "its last one, as far as sent"),
        (replace(FIRST, files=(FINISHED,)), "its last one, as far as sent"),
        (replace(SECOND, timelines=(OLD,)), "binlogd follows the new source"),
        (replace(SECOND, timelines=(OLD, NEW, OLD)), "binlogd follows the new source"),
        (replace(SECOND, timelines=(OLD,), sources=(OLD,)), "binlogd follows the new source"),
        (replace(SECOND, semi_sync=SemiSync(1, 4, 1)), "and alone acknowledges there"),
        (replace(SECOND, semi_sync=SemiSync(0, 4, 0)), "and alone acknowledges there"),
        (replace(SECOND, attached=(CONNECTION, replace(CONNECTION, number=4))), "the replica's connection stayed"),
        (replace(SECOND, attached=(CONNECTION, replace(CONNECTION, since=2.5))), "the replica's connection stayed"),
        (replace(SECOND, attached=(CONNECTION, replace(CONNECTION, source_port=1))), "the replica's connection stayed"),
        (replace(SECOND, errant=f"{OLD}:14"), "the old source is a replica"),
        (replace(SECOND, returned=False), "the old source is a replica"),
        (at("replica", replace(EVERYWHERE, ids=EVERYWHERE.ids - {15})), "every commit is on all servers"),
        (at("source", replace(EVERYWHERE, ids=EVERYWHERE.ids | {-1})), "every commit is on all servers"),
        (at("source", replace(EVERYWHERE, checksum=78)), "CHECKSUM TABLE, servers, journal"),
        (replace(SECOND, journal_checksum=78), "CHECKSUM TABLE, servers, journal"),
        (replace(SECOND, gtids_missing={**SECOND.gtids_missing, "source": "x:1"}), "all GTIDs of binlogd are there"),
        (replace(SECOND, gtids=""), "all GTIDs of binlogd are there"),
        (replace(SECOND, files=(replace(FINISHED, same=False), LAST)), "and the new source's"),
        (replace(SECOND, files=(FINISHED, replace(LAST, same=False))), "its newest one, as far as sent"),
        (replace(SECOND, binlogd_exit=4), "binlogd stopped in order"),
    ],
)  # fmt: skip
def test_each_broken_promise_fails_its_own_check(seen: FirstHalf | SecondHalf, what: str) -> None:
    assert failing(*((seen,) if isinstance(seen, FirstHalf) else (FIRST, seen))) == [what]


def test_nothing_committed_at_all_proves_nothing() -> None:
    assert "now it has every committed row" in failing(replace(FIRST, confirmed=frozenset(), at_standby=frozenset()))
    assert "every commit is on all servers" in failing(FIRST, replace(SECOND, confirmed=frozenset()))
    assert "every commit is on all servers" in failing(FIRST, replace(SECOND, rows={"standby": EVERYWHERE}))


def test_the_figures_shown_are_those_observed() -> None:
    behind = replace(FIRST, at_standby=FIRST.at_standby - {7})
    seen = {check.what: check.seen for check in judge(behind, replace(SECOND, errant=f"{OLD}:14", returned=False))}
    assert seen["now it has every committed row"] == "9 of 10, 1 missing"
    assert seen["and none that nobody committed"] == "1 of 2 cut off are in, 0 others"
    assert seen["binlogd alone acknowledged"] == "clients=1 yes_tx=5 no_tx=0"
    assert seen["it executed all GTIDs of binlogd"] == "1-13, missing: none"
    assert seen["binlogd follows the new source"] == "1.2 s later, 2 timelines"
    assert seen["the old source is a replica"] == "built anew, errant: 14"
    assert seen["every commit is on all servers"] == "19, 19, 19 of 19"


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
    monkeypatch.setattr(demo, "tell", lambda *_, **__: checks)
    result = CliRunner().invoke(demo.main, [])
    assert result.exit_code == 1
    assert "FAILED" in result.stdout and "1 of 2 checks FAILED" in result.stderr
    monkeypatch.setattr(demo, "tell", lambda *_, **__: checks[:1])
    assert CliRunner().invoke(demo.main, []).exit_code == 0


# --------------------------------------------------------------------------------------------------- the whole story


def start_demo(tmp_path: Path, *options: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "testbed.demo", "--rows", "100", *options],
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
    assert "All 18 checks hold" in out and "FAILED" not in out
    assert "CHANGE REPLICATION SOURCE TO SOURCE_HOST=" in out and "$ binlogd run -c " in out
    assert left_behind(tmp_path) == []


@pytest.mark.servers
@pytest.mark.slow
def test_an_old_source_with_errant_transactions_is_built_anew(tmp_path: Path, mysql: Distribution) -> None:
    process = start_demo(tmp_path, "--errant")
    out, err = process.communicate(timeout=RUN_TIMEOUT)
    assert process.returncode == 0, out + err
    assert "All 18 checks hold" in out and "built anew, errant: " in out
    assert left_behind(tmp_path) == []


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.parametrize(
    "moment", ["2. ", *(pytest.param(moment, marks=pytest.mark.slow) for moment in ("4. ", "6. ", "9. "))]
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
