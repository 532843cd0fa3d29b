"""``binlogd check``: every part on this machine, and against real sources, which it must not disturb."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from binlogd.binlog import compiled
from binlogd.cli.receiver_process import fingerprint
from binlogd.config import load_settings
from binlogd.receiver.override import FILE, Override, Said
from binlogd.receiver.session import Secret
from binlogd.store.disk import Disk
from testbed.binlogd import Binlogd
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.mysqld import Server
from testbed.ports import Port
from tests.cli.support import NEWEST, WITHOUT_OVERRIDE, binlogd, make_store

NOWHERE = "mysql://repl:secret@127.0.0.1:1"  # a port on which nobody listens


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield int(taken.getsockname()[1])


@pytest.fixture
def ports() -> Iterator[list[str]]:
    """Options with addresses of our own, so that tests beside each other do not meet."""
    held = [Port(), Port()]
    yield ["--listen", f"127.0.0.1:{held[0].number}", "--http", f"127.0.0.1:{held[1].number}"]
    for port in held:
        port.release()


def check(*arguments: str, code: int, **options: Any) -> dict[str, dict[str, str]]:
    """The lines by subject; the exit code is as given and stderr silent."""
    result = binlogd("check", "--json", *arguments, **options)
    assert (result.returncode, result.stderr) == (code, ""), result.stdout
    report = json.loads(result.stdout)
    assert len({line["subject"] for line in report["checks"]}) == len(report["checks"])
    assert (report["status"] == "fail") is (code == 1)
    return {line["subject"]: line for line in report["checks"]}


def line(lines: dict[str, dict[str, str]], subject: str) -> str:
    """One line as people read it."""
    found = lines[subject]
    return f"{found['status']}: {found['message']}" + (f" — {found['hint']}" if found["hint"] else "")


# ------------------------------------------------------------------------------------------------- on this machine


def test_a_wrong_configuration_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "binlogd.toml").write_text('[source]\nhots = ["db1"]\n')
    lines = check(cwd=tmp_path, code=1)
    assert list(lines) == ["configuration"]
    assert line(lines, "configuration").startswith('fail: unknown key "source.hots"')
    assert "source.hosts" in line(lines, "configuration")
    assert line(check("-c", "absent.toml", cwd=tmp_path, code=1), "configuration").startswith("fail: ")


def test_the_file_that_counts_is_named(tmp_path: Path, ports: list[str]) -> None:
    (tmp_path / "binlogd.toml").write_text('[source]\nhosts = ["127.0.0.1:1"]\nuser = "u"\npassword = "S3CRET"\n')
    lines = check(*ports, cwd=tmp_path, code=1)
    assert line(lines, "configuration") == "ok: binlogd.toml"
    assert line(check("--source", NOWHERE, *ports, cwd=tmp_path, code=1), "configuration") == "ok: binlogd.toml"
    assert "S3CRET" not in json.dumps(lines)


def test_text_is_one_line_a_check(tmp_path: Path, ports: list[str]) -> None:
    result = binlogd("check", "--source", NOWHERE, *ports, cwd=tmp_path, environ={"COLUMNS": "20"})
    assert (result.returncode, result.stderr) == (1, "")
    assert len(result.stdout.splitlines()) == 8
    assert all(re.match(r"(ok   |warn |fail ) [a-z_.]+  +\S", text) for text in result.stdout.splitlines())


def test_plain_python_is_slower(tmp_path: Path, ports: list[str]) -> None:
    lines = check("--source", NOWHERE, *ports, cwd=tmp_path, code=1)
    assert line(lines, "build").startswith("ok: compiled" if compiled() else "warn: plain Python")
    lines = check("--source", NOWHERE, *ports, cwd=tmp_path, code=1, environ={"BINLOGD_PURE": "1"})
    assert line(lines, "build").startswith("warn: plain Python")
    assert line(lines, "build").endswith("unset BINLOGD_PURE")


def test_each_of_several_hosts_has_its_lines(tmp_path: Path, ports: list[str]) -> None:
    text = '[source]\nhosts = ["127.0.0.1:1", "127.0.0.1:2"]\nuser = "u"\npassword = "S3CRET"\n'
    (tmp_path / "binlogd.toml").write_text(text)
    lines = check(*ports, cwd=tmp_path, code=1)
    assert line(lines, "source.follow") == "ok: writable: of 2 hosts the one that is not read_only is followed"
    for port in (1, 2):
        said = line(lines, f"source.127.0.0.1:{port}.connection")
        assert said.startswith(f"fail: cannot connect to the source at 127.0.0.1:{port}: ")
    (tmp_path / "binlogd.toml").write_text(text + 'follow = "first"\n')
    assert line(check(*ports, cwd=tmp_path, code=1), "source.follow").startswith("ok: first: of 2 hosts the first")


def test_what_was_ordered_by_statement(tmp_path: Path, ports: list[str]) -> None:
    make_store(tmp_path)
    arguments = ("--source", NOWHERE, "--data-dir", str(tmp_path), *ports)
    print_ = fingerprint(load_settings(source=NOWHERE, environ={}))
    Override(print_, Said(port=2, password=Secret("S3CRET")), running=False).save(Disk(), tmp_path)
    lines = check(*arguments, code=1)
    assert line(lines, "source.override").startswith("warn: another source was ordered by statement, which counts")
    assert "; receiving is stopped" in line(lines, "source.override")
    assert "127.0.0.1:2: " in line(lines, "source.connection")
    assert "S3CRET" not in json.dumps(lines)
    Override("of another configuration", Said(port=2)).save(Disk(), tmp_path)
    lines = check(*arguments, code=1)
    assert "source.override" not in lines
    assert "127.0.0.1:1: " in line(lines, "source.connection")
    (tmp_path / FILE).write_text("{}")
    assert line(check(*arguments, code=1), "source.override").startswith("fail: ")


def test_nothing_is_made(tmp_path: Path, ports: list[str]) -> None:
    lines = check("--source", NOWHERE, *ports, cwd=tmp_path, code=1)
    assert line(lines, "data_dir") == "ok: binlogd-data is not there yet and will be made"
    assert line(lines, "store") == "ok: empty"
    assert line(lines, "source.connection").startswith("fail: cannot connect to the source at 127.0.0.1:1: ")
    assert list(tmp_path.iterdir()) == []


def test_a_store_at_rest(tmp_path: Path, ports: list[str]) -> None:
    make_store(tmp_path)
    (tmp_path / "receiver.lock").write_text("4711\n")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    lines = check("--source", NOWHERE, "--data-dir", str(tmp_path), *ports, code=1)
    assert [subject for subject in lines if lines[subject]["status"] != "ok"] == ["source.connection"]
    assert line(lines, "data_dir.mode") == "ok: is its owner's alone"
    assert line(lines, "data_dir.space").endswith(" are free")
    assert line(lines, "store.lock") == "ok: free"
    assert re.fullmatch(rf"ok: 2 files, [\d.]+ KiB, up to {NEWEST}:\d+", line(lines, "store"))
    assert line(lines, "server.listen") == f"ok: {ports[1]} is free"
    assert line(lines, "http.listen") == f"ok: {ports[3]} is free"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_less_room_than_receiving_needs(tmp_path: Path, ports: list[str]) -> None:
    make_store(tmp_path)
    (tmp_path / "binlogd.toml").write_text('store.min_free = "1000000TiB"\n')
    config = str(tmp_path / "binlogd.toml")
    lines = check("-c", config, "--source", NOWHERE, "--data-dir", str(tmp_path), *ports, code=1)
    text = line(lines, "data_dir.space")
    assert text.startswith("warn: ")
    assert "are free, less than store.min_free, 977 PiB: nothing is received" in text


def test_a_lock_whose_holder_does_not_answer(tmp_path: Path, ports: list[str]) -> None:
    make_store(tmp_path)
    with open(tmp_path / "receiver.lock", "w") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        lines = check("--source", NOWHERE, "--data-dir", str(tmp_path), *ports, code=1)
    assert line(lines, "store.lock").startswith("warn: held by process 4711, which does not answer — ")


def test_a_folder_open_to_others(tmp_path: Path, ports: list[str]) -> None:
    make_store(tmp_path)
    tmp_path.chmod(0o750)
    lines = check("--source", NOWHERE, "--data-dir", str(tmp_path), *ports, code=1)
    assert line(lines, "data_dir.mode").startswith(f"warn: others may enter {tmp_path} (mode 0750)")
    assert lines["data_dir.mode"]["hint"] == f"chmod 700 {tmp_path}"


def test_a_damaged_store(tmp_path: Path, ports: list[str]) -> None:
    (make_store(tmp_path) / "mysql-bin.000001").write_bytes(b"nothing")
    lines = check("--source", NOWHERE, "--data-dir", str(tmp_path), *ports, code=1)
    assert line(lines, "store").startswith("ok: ")
    assert line(lines, "store.mysql-bin.000001").startswith("fail: ")
    (make_store(tmp_path / "other") / NEWEST).write_bytes(b"nothing")
    lines = check("--source", NOWHERE, "--data-dir", str(tmp_path / "other"), *ports, code=1)
    assert line(lines, "store").startswith("fail: ")
    assert NEWEST in line(lines, "store")
    (tmp_path / "auto.cnf").write_text("[auto]\nserver-id=x\n")
    lines = check("--source", NOWHERE, "--data-dir", str(tmp_path), *ports, code=1)
    assert "auto.cnf does not hold" in line(lines, "store")


def test_no_folder_can_be_there(tmp_path: Path, ports: list[str]) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/data"):
        lines = check("--source", NOWHERE, "--data-dir", str(tmp_path / place), *ports, code=1)
        assert lines["data_dir"]["status"] == "fail"
        assert "store" not in lines


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_a_folder_that_cannot_be_used(tmp_path: Path, ports: list[str]) -> None:
    timeline = make_store(tmp_path / "data")

    def fails(data_dir: Path) -> str:
        command = [*(WITHOUT_OVERRIDE if os.geteuid() == 0 else ()), sys.executable, "-m", "binlogd", "check", "--json"]
        arguments = ["--source", NOWHERE, *ports, "--data-dir", str(data_dir)]
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (1, "")
        lines = {found["subject"]: found for found in json.loads(result.stdout)["checks"]}
        assert lines["data_dir"]["status"] == "fail"
        return line(lines, "data_dir")

    timeline.chmod(0o500)
    assert str(timeline) in fails(tmp_path / "data")
    (tmp_path / "data").chmod(0o600)
    assert f"chown -R {os.geteuid()} {tmp_path}/data" in fails(tmp_path / "data")
    tmp_path.chmod(0o500)
    assert f"mkdir -p -m 700 {tmp_path}/new/data" in fails(tmp_path / "new" / "data")
    tmp_path.chmod(0o700)
    (tmp_path / "data").chmod(0o700)


def test_addresses_of_others(tmp_path: Path) -> None:
    with taken_port() as one, taken_port() as other:
        arguments = ["--listen", f"127.0.0.1:{one}", "--http", f"127.0.0.1:{other}"]
        lines = check("--source", NOWHERE, *arguments, cwd=tmp_path, code=1)
    assert line(lines, "server.listen").startswith(f"fail: cannot listen on 127.0.0.1:{one}: another process has it")
    assert "--listen" in lines["server.listen"]["hint"]
    assert line(lines, "http.listen").startswith(f"fail: cannot listen on 127.0.0.1:{other}: another process has it")
    assert "--http" in lines["http.listen"]["hint"]


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    arguments = ["--listen", "192.0.2.1:3307", "--http", "127.0.0.1:0"]
    lines = check("--source", NOWHERE, *arguments, cwd=tmp_path, code=1)
    assert line(lines, "server.listen").startswith("fail: cannot listen on 192.0.2.1:3307: Cannot assign")
    assert lines["http.listen"]["status"] == "ok"


# ----------------------------------------------------------------------------------------------------- the source


def url(source: Server, user: str = REPLICATION_USER, password: str = REPLICATION_PASSWORD) -> str:
    return f"mysql://{user}:{password}@{source.host}:{source.port}"


def semi_sync(source: Server, name: str) -> int:
    rows = source.query(f"SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_{name}'")
    return int(rows[0][1])


@pytest.mark.servers
def test_beside_a_running_binlogd(cluster: Cluster, tmp_path: Path) -> None:
    """What it uses is ok, and neither its dump nor its registration is ended."""
    source = cluster.server(semi_sync="source", sync_binlog=1, innodb_flush_log_at_trx_commit=1)
    running = Binlogd(tmp_path / "binlogd", source).start()
    try:
        running.wait_streaming()
        source.wait_until(lambda: semi_sync(source, "clients") == 1)
        source.execute("CREATE DATABASE d", "FLUSH BINARY LOGS", "CREATE TABLE d.t (id INT PRIMARY KEY)")
        running.wait_for(source)
        replicas = source.query("SHOW REPLICAS")
        assert len(replicas) == 1
        lines = check("-c", str(running.folder / "binlogd.toml"), code=0)
        assert {found["status"] for found in lines.values()} == {"ok"}, lines
        pids = running.halves()
        assert line(lines, "store.lock") == f"ok: in use by the running receiver, pid {pids['receive']}"
        assert line(lines, "server.listen").endswith(f"is in use by the running sender, pid {pids['serve']}")
        assert line(lines, "http.listen").endswith("is in use by the running binlogd")
        file, position = source.position()
        assert line(lines, "source.history") == f"ok: goes on at {file}:{position}, 0 bytes behind the source's end"
        assert source.query("SHOW REPLICAS") == replicas
        status = running.status()["source"]
        assert (status["state"], status["reconnects"]) == ("streaming", 0)
        source.execute("INSERT INTO d.t VALUES (1)")
        assert (semi_sync(source, "yes_tx"), semi_sync(source, "no_tx")) == (3, 0)
    finally:
        running.close()


@pytest.mark.servers
def test_a_source_that_needs_work(cluster: Cluster, tmp_path: Path, ports: list[str]) -> None:
    """The hints are statements: run as they stand, they put right what was wrong."""
    source = cluster.server()
    source.execute("CREATE DATABASE d", "FLUSH BINARY LOGS", "CREATE TABLE d.t (id INT)")
    source.create_user("poor", "S3CRET", privileges="USAGE")
    arguments = ["--source", url(source, "poor", "S3CRET"), "--data-dir", str(tmp_path / "data"), *ports]

    lines = check(*arguments, code=1)
    assert {subject for subject in lines if lines[subject]["status"] == "fail"} == {"source.replication_slave"}
    warned = {subject for subject in lines if lines[subject]["status"] == "warn"}
    assert warned == {
        "source.replication_client",
        "source.semi_sync",
        "source.sync_binlog",
        "source.innodb_flush_log_at_trx_commit",
    }
    statements = [lines[subject]["hint"] for subject in ("source.replication_slave", *sorted(warned))]
    source.execute(*(one for statement in statements for one in statement.split("; ")))
    lines = check(*arguments, code=0)
    assert {found["status"] for found in lines.values()} == {"ok"}, lines
    assert "the store is empty and will begin with mysql-bin.000001" in line(lines, "source.history")
    assert not (tmp_path / "data").exists()
    assert source.query("SHOW REPLICAS") == []

    source.execute("SET PERSIST gtid_mode = ON_PERMISSIVE", "SET PERSIST gtid_mode = OFF_PERMISSIVE")
    hint = check(*arguments, code=0)["source.gtid_mode"]["hint"].partition("; before")[0]
    source.execute(*hint.split("; "))
    assert check(*arguments, code=0)["source.gtid_mode"]["status"] == "ok"


@pytest.mark.servers
def test_what_fails_against_a_source(cluster: Cluster, tmp_path: Path, ports: list[str]) -> None:
    source = cluster.server()
    source.execute("CREATE DATABASE d", "FLUSH BINARY LOGS", "CREATE DATABASE e", "FLUSH BINARY LOGS")
    data = tmp_path / "data"
    common = ["--data-dir", str(data), *ports]

    lines = check("--source", url(source, password="wrong"), *common, code=1)
    assert line(lines, "source.login").startswith("fail: Access denied for user 'repl'")
    assert "CREATE USER 'repl'@'%'" in lines["source.login"]["hint"]
    assert "wrong" not in json.dumps(lines)

    lines = check("--source", url(source), *common, environ={"BINLOGD_SERVER_ID": str(source.server_id)}, code=1)
    assert line(lines, "source.server_id").startswith("fail: the source has our own server_id")

    lines = check("--source", url(source), *common, environ={"BINLOGD_SOURCE__START": "mysql-bin.000099"}, code=1)
    assert "mysql-bin.000001 to mysql-bin.000003" in line(lines, "source.history")

    # A store of this source that ends in its first file, which is then purged.
    timeline = make_store(data, source.server_uuid)
    (timeline / NEWEST).unlink()
    (timeline / "mysql-bin.000001").write_bytes((source.binlog_dir / "mysql-bin.000001").read_bytes())
    lines = check("--source", url(source), *common, code=0)
    assert line(lines, "source.history").startswith("ok: goes on at mysql-bin.000001:")
    source.execute("PURGE BINARY LOGS TO 'mysql-bin.000003'")
    lines = check("--source", url(source), *common, code=1)
    assert "has purged what comes after mysql-bin.000001:" in line(lines, "source.history")
    assert "its oldest file is mysql-bin.000003" in line(lines, "source.history")

    source.restart(log_bin=None, skip_log_bin=True)
    lines = check("--source", url(source), "--data-dir", str(tmp_path / "other"), *ports, code=1)
    assert line(lines, "source.log_bin").startswith("fail: is OFF")


@pytest.mark.servers
def test_old_relatives(cluster: Cluster, tmp_path: Path, ports: list[str], mysql_56: Any, mariadb: Any) -> None:
    """Every question is one that 5.6 and MariaDB answer."""
    for distribution in (mysql_56, mariadb):
        source = cluster.server(f"source-{distribution.label.replace(' ', '-')}", distribution=distribution)
        lines = check("--source", url(source), "--data-dir", str(tmp_path / "data"), *ports, code=0)
        assert line(lines, "source.replication_slave").startswith("ok")
        assert line(lines, "source.version").startswith(("ok: 5.6.", "ok: 11."))
        assert "source.log_slave_updates" not in lines or lines["source.log_slave_updates"]["status"] == "ok"
        assert "the store is empty and will begin with mysql-bin.00000" in line(lines, "source.history")
