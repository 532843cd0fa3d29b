"""What ``binlogd check`` finds about disk, limits and users of this machine, and a source set wrong in every way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogd.cli.check import file_system_type
from binlogd.receiver.link import Wake
from binlogd.receiver.session import Secret, Session, SourceOptions
from binlogd.store.layout import Identity
from testbed.cluster import REPLICATION_PASSWORD, REPLICATION_USER, Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.cli.support import NEWEST, logs, make_store
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
    assert (
        "only 300 may be open at a time in what this shell starts, and server.max_connections = 256 can need 576"
        in said.stdout
    )


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


@pytest.mark.parametrize(
    ("limits", "status", "said"),
    [
        ('keep = "1s"', "ok", r".* a day, and there is room for the 1s of store.keep"),
        (
            'keep = "36500d"\nmin_free = "1000000TiB"',
            "warn",
            r".* a day: the .* that may be filled last .* days, and store.keep = .* needs",
        ),
        ('keep = "36500d"\nmax_size = "1GiB"', "ok", r".* a day, up to store.max_size, for which there is room"),
        ('min_free = "1000000TiB"', "warn", r".* a day: the 0 B that may be filled last 0.0 days"),
        ("", "ok", r".* a day: the .* that may be filled last .* days"),
    ],
)
def test_growth_against_the_room(tmp_path: Path, ports: list[str], limits: str, status: str, said: str) -> None:
    make_store(tmp_path)
    (tmp_path / "binlogd.toml").write_text(f"[store]\n{limits}\n")
    arguments = ("-c", str(tmp_path / "binlogd.toml"), "--source", NOWHERE, "--data-dir", str(tmp_path), *ports)
    growth = check(*arguments, code=1)["store.growth"]
    assert (growth["status"], bool(growth["hint"])) == (status, status == "warn"), growth
    assert re.match(said, growth["message"]), growth


def test_growth_is_told_of_more_than_moments(tmp_path: Path, ports: list[str]) -> None:
    young = {name: data for name, data in logs().items() if name == NEWEST}
    (make_store(tmp_path) / next(name for name in logs() if name not in young)).unlink()
    assert "store.growth" not in check("--source", NOWHERE, "--data-dir", str(tmp_path), *ports, code=1)


@pytest.mark.parametrize(
    ("there", "limits", "said"),
    [
        (
            False,
            'min_free = "1000000TiB"',
            r"fail: store.min_free is 977 PiB, and the disk .*: nothing is ever received",
        ),
        (True, 'min_free = "{rest}"', r"warn: store.min_free is .* with every file gone: nothing can be kept — "),
        (
            True,
            'max_size = "1000000TiB"',
            r"warn: store.max_size is 977 PiB, and the disk .*: no file ever goes for it",
        ),
        (False, 'keep = "1ms"', ""),
        (True, 'keep = "1s"\nmax_size = "1GiB"\nmin_free = "1MiB"', ""),
    ],
)
def test_absurd_retention(tmp_path: Path, ports: list[str], there: bool, limits: str, said: str) -> None:
    data = tmp_path / "data"
    if there:
        make_store(data)
    space = os.statvfs(tmp_path)
    rest = space.f_blocks * space.f_frsize - 1  # less than all, and more than is free however empty the disk is
    (tmp_path / "binlogd.toml").write_text(f"[store]\n{limits.replace('{rest}', f'{rest}B')}\n")
    arguments = ("-c", str(tmp_path / "binlogd.toml"), "--source", NOWHERE, "--data-dir", str(data), *ports)
    lines = check(*arguments, code=1)
    if not said:
        assert "store.retention" not in lines
    else:
        assert re.match(said, line(lines, "store.retention"))


@pytest.mark.servers
def test_retention_that_has_no_room_for_one_file(source: Server, tmp_path: Path, ports: list[str]) -> None:
    config = tmp_path / "b.toml"
    arguments = ["-c", str(config), "--source", url(source), "--data-dir", str(tmp_path / "data"), *ports]
    config.write_text('[store]\nmax_size = "1023MiB"\n')
    lines = check(*arguments, code=0)
    said = "warn: is 1.00 GiB, and store.max_size and store.min_free leave 1023 MiB to all files"
    assert line(lines, "source.max_binlog_size").startswith(said)
    before = source.query("SELECT @@max_binlog_size AS size")[0][0]
    try:
        source.execute(lines["source.max_binlog_size"]["hint"].partition("often: ")[2])
        assert "source.max_binlog_size" not in check(*arguments, code=0)
    finally:
        source.execute(f"SET PERSIST max_binlog_size = {before}")
    config.write_text('[store]\nmax_size = "1GiB"\n')
    assert "source.max_binlog_size" not in check(*arguments, code=0)


@pytest.mark.servers
def test_a_source_that_wants_tls(source: Server, tmp_path: Path, ports: list[str]) -> None:
    config = tmp_path / "b.toml"
    config.write_text('[source]\ntls = "disabled"\n')
    arguments = ["-c", str(config), "--source", url(source), "--data-dir", str(tmp_path / "data"), *ports]
    assert "TLS" not in line(check(*arguments, code=0), "source.tls")
    admin = source.connect()  # made before, for it is without TLS
    try:
        admin.cursor().execute("SET GLOBAL require_secure_transport = ON")
        lines = check(*arguments, code=1)
        said = "the source takes no connection without TLS (require_secure_transport = ON), and source.tls = disabled"
        assert line(lines, "source.tls").startswith(f"fail: {said} — ")
        assert "source.login" not in lines, "the password is not at fault"
        hint = lines["source.tls"]["hint"]
        config.write_text(f"[source]\n{hint.removeprefix('set source.').partition(',')[0]}\n")
        assert line(check(*arguments, code=0), "source.tls") == "ok: the connection is encrypted"
    finally:
        admin.cursor().execute("SET GLOBAL require_secure_transport = OFF")
        admin.close()


@pytest.mark.servers
def test_a_replica_that_is_taken_for_us(source: Server, tmp_path: Path, ports: list[str]) -> None:
    """As the source itself lists it: one that registered with our server_uuid, our server_id, or both."""
    data = tmp_path / "data"
    arguments = ["--source", url(source), "--data-dir", str(data), *ports]
    mine, other = "11111111-0000-0000-0000-000000000001", "22222222-0000-0000-0000-000000000001"

    def checked(server_id: int, server_uuid: str, code: int) -> str:
        environ = {"BINLOGD_SERVER_ID": str(server_id), "BINLOGD_SERVER_UUID": server_uuid}
        return line(check(*arguments, environ=environ, code=code), "source.replicas")

    assert checked(77, mine, 0) == "ok: 0 others registered, none with our server_id"
    options = SourceOptions(source.host, source.port, REPLICATION_USER, Secret(REPLICATION_PASSWORD), report_host="db7")
    session = Session(options, Identity(mine, 77), Wake())
    try:
        session.connect()
        session.prepare()
        session.enlist()
        source.wait_until(lambda: len(source.query("SHOW REPLICAS")) == 1)
        assert checked(78, other, 0) == "ok: 1 other registered, none with our server_id"
        assert checked(78, mine, 1).startswith("fail: another replica (at db7, server_id 77) has our own server_uuid")
        assert checked(77, other, 1).startswith("fail: another replica (at db7, server_id 77) has our own server_id")
        assert checked(77, mine, 0).startswith("warn: another replica (at db7, server_id 77) has our server_id, and no")
    finally:
        session.close()
    source.wait_until(lambda: source.query("SHOW REPLICAS") == [])


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
