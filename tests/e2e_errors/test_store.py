"""Data folders that cannot be used: exit code 4, and not a byte of them changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.binlogd import Binlogd
from testbed.cluster import Cluster
from tests.binlog.making import UUID_A
from tests.cli.support import NEWEST, TIMEOUT, WITHOUT_OVERRIDE, binlogd, make_store, the_error
from tests.e2e_errors.support import NOWHERE, addresses, ended, leftovers, url, written

MODES = ("run", "receive", "serve")
TOOLS = ("status", "list")


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_under_a_file(tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").write_text("precious")
    error = the_error(ended(mode, NOWHERE, tmp_path / "file" / "data"), 4)
    assert f"cannot make {tmp_path}/file/data" in error
    assert "check the path" in error
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
@pytest.mark.parametrize("mode", [*MODES, *TOOLS])
def test_a_folder_that_may_not_be_entered(tmp_path: Path, mode: str) -> None:
    make_store(tmp_path / "data")
    (tmp_path / "data").chmod(0)
    arguments = [mode, "--data-dir", str(tmp_path / "data"), *(["--source", NOWHERE] if mode in MODES else [])]
    with addresses() as own:
        result = subprocess.run(
            [*(WITHOUT_OVERRIDE if os.geteuid() == 0 else ()), sys.executable, "-m", "binlogd", *arguments],
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    error = the_error(result, 4)
    (tmp_path / "data").chmod(0o700)
    assert f"{tmp_path}/data" in error
    assert "Permission denied" in error
    assert "permissions" in error.partition(" — ")[2]


def test_a_damaged_file_keeps_nobody_from_receiving_and_serving(tmp_path: Path) -> None:
    """It is an alarm. Nothing is written to it, nor beside it as if it were sound; what else there is is served."""
    one = Binlogd(tmp_path / "b", ("127.0.0.1", 1))
    timeline = make_store(one.data)
    first = timeline / "mysql-bin.000001"
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)
    try:
        one.start()
        status = one.status()
        assert [alarm["code"] for alarm in status["alarms"]][:1] == ["store_damaged"]
        assert "mysql-bin.000001: the event at " in status["alarms"][0]["message"]
        assert "--repair" in status["alarms"][0]["hint"]
        assert status["store"]["gtid_executed"] == f"{UUID_A}:1-6"
        assert status["store"]["gtid_purged"] == ""
        assert one.query("SELECT @@gtid_executed") == [(f"{UUID_A}:1-6",)]
        assert one.stop() == 0
    finally:
        one.close()
    assert first.read_bytes() == data
    assert not first.with_name("mysql-bin.000001.idx").exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_is_no_binary_log(tmp_path: Path, mode: str) -> None:
    timeline = make_store(tmp_path)
    (timeline / NEWEST).write_bytes(b"notes of mine\n" * 100)
    before = written(tmp_path)
    assert NEWEST in the_error(ended(mode, NOWHERE, tmp_path), 4, processes=2 if mode == "run" else 1)
    assert written(tmp_path).items() >= before.items()


@pytest.mark.parametrize("mode", MODES)
def test_a_spoilt_identity(tmp_path: Path, mode: str) -> None:
    make_store(tmp_path)
    (tmp_path / "auto.cnf").write_text("[auto]\nserver-uuid=none\n")
    error = the_error(ended(mode, NOWHERE, tmp_path), 4)
    assert "auto.cnf does not hold a server-uuid and a server-id" in error
    assert (tmp_path / "auto.cnf").read_text() == "[auto]\nserver-uuid=none\n"


@pytest.mark.servers
def test_a_second_receiver(cluster: Cluster, tmp_path: Path) -> None:
    """It ends, and the first one does not notice, nor do those who ask or follow it."""
    source = cluster.server()
    first = Binlogd(tmp_path / "b", source, settings={"source.semi_sync": False}).start()
    try:
        first.wait_streaming()
        before = first.halves()
        for mode in ("receive", "run"):
            error = the_error(ended(mode, url(source), first.data), 4)
            assert f"another receiver (pid {before['receive']}) owns the store at {first.data}" in error
            assert "--data-dir" in error.partition(" — ")[2]
            assert first.halves() == before
            status = first.status()
            assert (status["source"]["state"], status["server"]["state"]) == ("streaming", "serving")
            assert status["source"]["reconnects"] == 0
            assert status["alarms"] == []
        source.execute("CREATE DATABASE d")
        first.wait_for(source)
        assert first.query("SELECT @@gtid_executed") == [(source.gtid_executed,)]
        # A further sender of a store is welcome: readers take no lock.
        further = Binlogd(tmp_path / "c", source, mode="serve", settings={"data_dir": str(first.data)})
        further.data = first.data
        further.start(wait=False)
        try:
            further.wait_until(lambda: "serving" in further.log, "listener")
            assert further.query("SELECT @@gtid_executed") == [(source.gtid_executed,)]
            source.execute("CREATE DATABASE e")
            first.wait_for(source)
            further.wait_until(lambda: further.query("SELECT @@gtid_executed") == [(source.gtid_executed,)], "e")
            assert further.stop() == 0
        finally:
            further.close()
        assert first.status()["server"]["state"] == "serving", "its socket went with the other's"
        assert first.stop() == 0
        assert leftovers(first.data) == []
    finally:
        first.close()


def test_tools_need_no_more_than_the_store(tmp_path: Path) -> None:
    """A configuration whose password file they may not read does not keep them from it."""
    make_store(tmp_path / "data")
    (tmp_path / "binlogd.toml").write_text('data_dir = "data"\nsource.password_file = "absent"\n')
    for tool in TOOLS:
        assert binlogd(tool, cwd=tmp_path).returncode == 0
