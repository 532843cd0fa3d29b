"""What ``binlogd check`` finds about disk, limits and users of this machine, and a source set wrong in every way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogd.cli.check import file_system_type
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.cli.support import make_store
from tests.cli.test_check import NOWHERE, check, line, ports, url

__all__ = ["ports"]  # a fixture


def test_a_store_in_memory(ports: list[str]) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or file_system_type(shm, Path("/proc/self/mountinfo")) != "tmpfs":
        pytest.skip("there is no tmpfs at /dev/shm")
    data = shm / f"binlogd-check-{ports[1].rpartition(':')[2]}"
    try:
        make_store(data)
        lines = check("--source", NOWHERE, "--data-dir", str(data), *ports, code=1)
        assert line(lines, "data_dir.file_system").startswith(f"fail: {data} lies in memory (tmpfs)")
    finally:
        shutil.rmtree(data)


def test_which_file_system(tmp_path: Path) -> None:
    kind = file_system_type(tmp_path, Path("/proc/self/mountinfo"))
    said = subprocess.run(["findmnt", "-nT", tmp_path, "-o", "FSTYPE"], capture_output=True, text=True, check=True)
    assert kind == said.stdout.strip()
    assert file_system_type(tmp_path, tmp_path / "absent") is None


def test_too_few_descriptors(tmp_path: Path, ports: list[str]) -> None:
    arguments = ["--source", NOWHERE, "--data-dir", str(tmp_path), *ports]
    assert check(*arguments, code=1)["open_files"]["status"] == "ok"
    command = ["prlimit", "--nofile=300:300", sys.executable, "-m", "binlogd", "check", *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "only 300 may be open at a time, and server.max_connections = 256 can need 576" in said.stdout


def test_users_let_in_too_easily(tmp_path: Path, ports: list[str]) -> None:
    config = tmp_path / "b.toml"
    port = ports[1].rpartition(":")[2]
    config.write_text(
        '[[server.users]]\nname = "open"\npassword = ""\n'
        '[[server.users]]\nname = "boss"\npassword = "x"\nrole = "admin"\n'
        '[[server.users]]\nname = "near"\npassword = "x"\nrole = "admin"\nhosts = ["localhost"]\n'
    )
    arguments = ["-c", str(config), "--source", NOWHERE, "--data-dir", str(tmp_path), *ports]
    assert not any(subject.startswith("server.users") for subject in check(*arguments, code=1)), "on loopback"
    lines = check(*arguments, "--listen", f"0.0.0.0:{port}", code=1)
    assert line(lines, "server.users.open").startswith("warn: has an empty password")
    assert line(lines, "server.users.boss").startswith("warn: is an admin and may come from any address")
    assert "server.users.near" not in lines


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, mysql: Distribution) -> Iterator[Server]:
    with Cluster(tmp_path_factory.mktemp("source"), mysql) as cluster:
        yield cluster.server(semi_sync="source", sync_binlog=1, innodb_flush_log_at_trx_commit=1)


WRONG = {
    "source.binlog_checksum": ("binlog_checksum", "NONE"),
    "source.binlog_format": ("binlog_format", "'MIXED'"),
    "source.binlog_row_image": ("binlog_row_image", "'MINIMAL'"),
    "source.sync_binlog": ("sync_binlog", "0"),
    "source.innodb_flush_log_at_trx_commit": ("innodb_flush_log_at_trx_commit", "2"),
    "source.binlog_expiry": ("binlog_expire_logs_seconds", "3600"),
    "source.semi_sync_timeout": ("rpl_semi_sync_source_timeout", "1000"),
    "source.semi_sync_count": ("rpl_semi_sync_source_wait_for_replica_count", "2"),
    "source.semi_sync_wait_point": ("rpl_semi_sync_source_wait_point", "'AFTER_COMMIT'"),
    "source.semi_sync_wait_alone": ("rpl_semi_sync_source_wait_no_replica", "OFF"),
}


@pytest.mark.servers
def test_everything_set_wrong_and_put_right_by_the_hints(source: Server, tmp_path: Path, ports: list[str]) -> None:
    arguments = ["--source", url(source), "--data-dir", str(tmp_path / "data"), *ports]
    before = {subject: found["status"] for subject, found in check(*arguments, code=0).items()}
    assert not {subject for subject, status in before.items() if status != "ok"} - {"data_dir.file_system"}
    for name, value in WRONG.values():
        source.execute(f"SET GLOBAL {name} = {value}")
    lines = check(*arguments, code=0)
    assert {subject for subject in lines if lines[subject]["status"] == "warn"} == set(WRONG)
    for subject in WRONG:
        source.execute(lines[subject]["hint"].partition(", or ")[0])
    after = check(*arguments, code=0)
    assert {found["status"] for found in after.values()} == {"ok"}
