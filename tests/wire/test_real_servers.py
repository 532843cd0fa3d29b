"""Our client at real servers, and real clients at our server."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import pytest

from binlogd.errors import ProtocolError, ServerError
from binlogd.wire.auth import Account, PasswordHash, Plugin, native_stage2
from binlogd.wire.capabilities import Capability
from binlogd.wire.client import TlsPolicy
from binlogd.wire.commands import BinlogDumpGtid, InitDb, RegisterReplica
from binlogd.wire.packets import PacketReader
from binlogd.wire.results import Result, is_eof
from testbed.cluster import Cluster
from testbed.distributions import Distribution
from testbed.mysqld import Server
from tests.wire.shell import ClientShell, server_certificate, serving
from tests.wire.support import matches

pytestmark = pytest.mark.servers

PASSWORD = "pässwörd-☃"  # PyMySQL would say it in latin-1, and is given bytes
LOGINS = 1000


@pytest.fixture(scope="module")
def server(mysql: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Cluster(tmp_path_factory.mktemp("wire"), mysql) as cluster:
        server = cluster.server("source")
        for name, password in (("sha2", PASSWORD), ("empty", "")):
            server.create_user(name, password, privileges="ALL")
        server.create_user("sha256", PASSWORD, plugin="sha256_password")
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return server_certificate(tmp_path_factory.mktemp("tls"))


def enter(server: Server, user: str = "sha2", password: str = PASSWORD, **options: Any) -> ClientShell:
    return ClientShell(server.host, server.port, user=user, password=password, **options)


# --- our client


@pytest.mark.parametrize("policy", [TlsPolicy.REQUIRED, TlsPolicy.PREFERRED])
def test_tls(server: Server, policy: TlsPolicy) -> None:
    server.execute("FLUSH PRIVILEGES")  # empties the server's cache: the first login is a full one
    for _ in range(2):
        with enter(server, tls=policy, attributes={"program_name": "wire"}) as shell:
            assert shell.connection.tls_active
            assert shell.connection.auth_plugin is Plugin.CACHING_SHA2
            cipher = shell.query("SHOW STATUS LIKE 'Ssl_cipher'").rows[0][1]
            assert cipher


def test_rsa_and_then_the_fast_path(server: Server) -> None:
    server.execute("FLUSH PRIVILEGES")
    with enter(server) as shell:
        assert b"-----BEGIN PUBLIC KEY-----" in shell.received
        key = shell.received[shell.received.index(b"-----BEGIN") :].partition(b"-----END")[0]
        assert shell.query("SELECT CURRENT_USER()").rows == [("sha2@%",)]
    with enter(server) as shell:
        assert b"PUBLIC KEY" not in shell.received
        assert b"\x02\0\0\x02\x01\x03" in shell.received
    server.execute("FLUSH PRIVILEGES")
    pem = bytes(key) + b"-----END PUBLIC KEY-----\n"
    with enter(server, public_key=pem) as shell:
        assert b"PUBLIC KEY" not in shell.received
        assert b"\x02\0\0\x02\x01\x04" in shell.received


def test_sha256_password(server: Server) -> None:
    for policy in TlsPolicy:
        with enter(server, "sha256", tls=policy) as shell:
            assert shell.connection.auth_plugin is Plugin.SHA256
            assert shell.query("SELECT CURRENT_USER()").rows == [("sha256@%",)]


def test_an_empty_password(server: Server) -> None:
    for policy in TlsPolicy:
        with enter(server, "empty", "", tls=policy) as shell:
            assert shell.query("SELECT 1").rows == [("1",)]


@pytest.mark.parametrize(
    ("user", "password", "used"),
    [
        ("sha2", "wrong", "YES"),
        ("sha2", "", "NO"),
        ("empty", "x", "YES"),
        # Names the server does not know are asked for the one or the other method, by the name's hash.
        *((f"nobody{number}", "x", "YES") for number in range(6)),
        ("nobody", "", "NO"),
    ],
)
@pytest.mark.parametrize("policy", [TlsPolicy.DISABLED, TlsPolicy.REQUIRED])
def test_a_wrong_password_is_1045(server: Server, user: str, password: str, used: str, policy: TlsPolicy) -> None:
    with pytest.raises(ServerError) as caught:
        enter(server, user, password, tls=policy)
    assert (caught.value.code, caught.value.sqlstate) == (1045, "28000")
    assert caught.value.message == f"Access denied for user '{user}'@'127.0.0.1' (using password: {used})"


def test_our_refusal_reads_as_mysqls(server: Server) -> None:
    def refused(port: int) -> ServerError:
        with pytest.raises(ServerError) as caught:
            ClientShell("127.0.0.1", port, user="sha2", password="wrong")
        return caught.value

    theirs = refused(server.port)
    with serving(Account("sha2", PASSWORD)) as ours:
        mine = refused(ours.port)
    assert (mine.code, mine.sqlstate, mine.message) == (theirs.code, theirs.sqlstate, theirs.message)


STATEMENTS = [
    "SELECT 1, -2, 18446744073709551615, 1.50, 2e30, NULL, '', 'é☃', DATE '2026-01-02', TRUE",
    "SELECT REPEAT('x', 250), REPEAT('x', 251), REPEAT('x', 70000)",
    "SELECT 1 WHERE FALSE",
    "SELECT @@GLOBAL.SERVER_ID, @@GLOBAL.SERVER_UUID, @@GLOBAL.GTID_MODE",
    "SELECT @nothing",
    "SHOW VARIABLES LIKE 'binlog%'",
    "SHOW BINARY LOGS",
    "SELECT table_name FROM information_schema.tables ORDER BY 1",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_results_are_what_pymysql_reads(server: Server, sql: str) -> None:
    connection = server.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(sql)
        rows = cursor.fetchall()
        names = tuple(column[0] for column in cursor.description)

    def plain(value: object) -> object:
        return value if value is None or isinstance(value, str) else str(value)

    with enter(server) as shell:
        result = shell.query(sql)
        assert result.columns == names
        if "2e30" in sql:
            assert result.rows == [
                ("1", "-2", "18446744073709551615", "1.50", "2e30", None, "", "é☃", "2026-01-02", "1")
            ]
        else:
            assert result.rows == [tuple(plain(value) for value in row) for row in rows]


def test_byte_strings_are_bytes(server: Server) -> None:
    with enter(server) as shell:
        assert shell.query("SELECT x'00ff', CAST('é' AS BINARY), b'101'").rows == [(b"\x00\xff", "é".encode(), b"\x05")]


def test_changes_report_rows_ids_warnings_and_info(server: Server) -> None:
    with enter(server) as shell:
        shell.query("CREATE DATABASE wire")
        assert shell.command(InitDb("wire").encode()) == Result()
        shell.query("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT)")
        inserted = shell.query("INSERT INTO t (a) VALUES (1), (2), (3)")
        assert (inserted.affected, inserted.last_insert_id) == (3, 1)
        assert inserted.info == "Records: 3  Duplicates: 0  Warnings: 0"
        updated = shell.query("UPDATE t SET a = 9 WHERE id > 1")
        assert updated == Result((), [], 2, 0, 0, "Rows matched: 2  Changed: 2  Warnings: 0")
        assert shell.query("SELECT 1/0").warnings == 1
        with pytest.raises(ServerError, match="doesn't exist") as caught:
            shell.query("SELECT * FROM missing")
        assert (caught.value.code, caught.value.sqlstate) == (1146, "42S02")
        shell.query("DROP DATABASE wire")


def test_the_database_and_the_attributes_arrive(server: Server) -> None:
    with enter(server, database="mysql", attributes={"program_name": "wire", "_x": "é" * 100}) as shell:
        assert shell.query("SELECT DATABASE()").rows == [("mysql",)]
        shell.connection.ping()
        assert shell._answer() == Result()
    with pytest.raises(ServerError) as caught:
        enter(server, database="missing")
    assert caught.value.code == 1049


def test_a_dump_is_handed_over(server: Server) -> None:
    with enter(server) as shell:
        shell.query("SET @source_binlog_checksum = 'CRC32'")
        assert shell.command(RegisterReplica(server_id=4242, host="wire", port=1).encode()) == Result()
        dump = BinlogDumpGtid(position=4, flags=1, server_id=4242, gtid_data=bytes(8))
        shell.connection.start_dump(dump.encode())
        shell.socket.sendall(shell.connection.data_to_send())
        shell.connection.receive(shell.socket.recv(7))
        reader = PacketReader(max_payload=1 << 24, sequence=1)
        reader.feed(shell.connection.remainder())
        types = []
        while True:
            payload = reader.next()
            if payload is None:
                reader.feed(shell.socket.recv(65536))
                continue
            if is_eof(payload, shell.connection.capabilities):
                break
            assert payload[0] == 0
            types.append(payload[5])
        assert types[:3] == [4, 15, 35], "ROTATE, FORMAT_DESCRIPTION, PREVIOUS_GTIDS"
        assert len(types) > 3


def test_a_thousand_logins(server: Server) -> None:
    for number in range(LOGINS):
        with enter(server) as shell:
            assert shell.connection.auth_plugin is Plugin.CACHING_SHA2, number


def test_stored_hashes_are_understood(server: Server) -> None:
    for number, password in enumerate(["x", PASSWORD, "a much longer password than anybody has " * 3]):
        server.create_user(f"stored{number}", password)
        stored = server.value("SELECT HEX(authentication_string) FROM mysql.user WHERE user = %s", f"stored{number}")
        known = PasswordHash.parse("0x" + stored)
        assert known.plugin is Plugin.CACHING_SHA2
        assert known.rounds == server.variables["caching_sha2_password_digest_rounds"]
        assert matches(known, password.encode())
        assert not matches(known, password.encode() + b"x")


# --- other servers, which know mysql_native_password only


@pytest.mark.parametrize("name", ["mysql_56", "mariadb_10_11", "mariadb"])
def test_servers_with_native_passwords(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    distribution: Distribution = request.getfixturevalue(name)
    with Cluster(tmp_path, distribution) as cluster:
        server = cluster.server("old")
        server.create_user("native", "secret", privileges="ALL")
        for policy in (TlsPolicy.DISABLED, TlsPolicy.PREFERRED):
            with enter(server, "native", "secret", tls=policy, attributes={"program_name": "wire"}) as shell:
                assert shell.connection.auth_plugin is Plugin.NATIVE
                assert shell.query("SELECT 1, 'é', NULL").rows == [("1", "é", None)]
                assert shell.query("SET @a = 1") == Result()
                greeting = shell.connection.greeting
                assert greeting is not None
                assert shell.connection.tls_active is (
                    policy is TlsPolicy.PREFERRED and bool(greeting.capabilities & Capability.SSL)
                )
        with pytest.raises(ServerError) as caught:
            enter(server, "native", "wrong")
        assert caught.value.code == 1045
        if greeting is not None and not greeting.capabilities & Capability.SSL:
            with pytest.raises(ProtocolError, match="TLS is required"):
                enter(server, "native", "secret", tls=TlsPolicy.REQUIRED)
        hashed = server.value("SELECT PASSWORD(%s)", PASSWORD)
        assert PasswordHash.parse(hashed).digest == native_stage2(PASSWORD.encode())


# --- our server


@dataclass(frozen=True)
class Known:
    """The same password kept in three ways."""

    plain: Account
    sha2: Account
    native: Account


@pytest.fixture(scope="module")
def known(server: Server) -> Known:
    stored = server.value("SELECT HEX(authentication_string) FROM mysql.user WHERE user = 'sha2'")
    return Known(
        Account("plain", PASSWORD),
        Account("sha2", password_hash="0x" + stored),
        Account("native", password_hash="*" + native_stage2(PASSWORD.encode()).hex()),
    )


TLS = {"ssl": {"check_hostname": False, "verify_mode": "none"}}


@pytest.mark.parametrize("kind", ["plain", "sha2", "native"])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_pymysql_at_our_server(known: Known, certificate: ssl.SSLContext, kind: str, tls: bool) -> None:
    account = getattr(known, kind)
    with serving(account, certificate=certificate) as ours:
        arguments: dict[str, Any] = {"host": "127.0.0.1", "port": ours.port, "charset": "utf8mb4"}
        arguments |= TLS if tls else {"ssl_disabled": True}
        for _ in range(2):  # the second login takes the fast path
            connection = pymysql.connect(user=kind, password=PASSWORD.encode(), **arguments)
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT all kinds")
                assert cursor.fetchall() == ((1, "é☃", None), (-(2**63), "x" * 70_000, None))
                assert [column[0] for column in cursor.description] == ["n", "s", "nothing"]
                cursor.execute("SELECT nothing")
                assert cursor.fetchall() == ()
                assert cursor.execute("UPDATE") == 5
                assert cursor.lastrowid == 300
                connection.ping(reconnect=False)
                with pytest.raises(pymysql.err.ProgrammingError, match="SQL syntax"):
                    cursor.execute("DROP DATABASE everything")
        assert [login.tls_active for login in ours.logins] == [tls, tls]
        assert ours.logins[0].attributes["_client_name"] == "pymysql"
        assert len(ours.cache) == (kind == "sha2")
        for password in ("wrong", ""):
            with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
                pymysql.connect(user=kind, password=password, **arguments)


def mysql_cli(
    server: Server, port: int, user: str, *args: str, password: str = PASSWORD
) -> subprocess.CompletedProcess[str]:
    arguments = ["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={port}", f"--user={user}"]
    arguments += [f"--password={password}", "--batch", "--default-character-set=utf8mb4", *args]
    return subprocess.run(
        [*server.program("mysql"), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("kind", ["plain", "sha2"])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_the_mysql_client_at_our_server(
    server: Server, known: Known, certificate: ssl.SSLContext, kind: str, tls: bool
) -> None:
    link = ["--ssl-mode=REQUIRED"] if tls else ["--ssl-mode=DISABLED", "--get-server-public-key"]
    with serving(getattr(known, kind), certificate=certificate) as ours:
        for _ in range(2):
            done = mysql_cli(server, ours.port, kind, *link, "-e", "SELECT all kinds")
            assert done.returncode == 0, done.stderr
            assert done.stdout == f"n\ts\tnothing\n1\té☃\tNULL\n{-(2**63)}\t{'x' * 70_000}\tNULL\n"
        assert ours.logins[0].attributes["program_name"] == "mysql"
        assert ours.logins[0].tls_active is tls
        done = mysql_cli(server, ours.port, kind, *link, "-e", "SELECT 1", password="wrong")
        assert done.returncode == 1
        assert f"ERROR 1045 (28000): Access denied for user '{kind}'@'127.0.0.1'" in done.stderr
        assert "using password: YES" in done.stderr
        done = mysql_cli(server, ours.port, kind, *link, "-e", "DROP DATABASE everything")
        assert "ERROR 1064 (42000)" in done.stderr


def test_the_mysql_client_sends_no_password_in_clear(server: Server, known: Known) -> None:
    with serving(known.sha2) as ours:
        done = mysql_cli(server, ours.port, "sha2", "--ssl-mode=DISABLED", "-e", "SELECT 1")
        assert "Authentication requires secure connection" in done.stderr
        assert ours.logins == []


def test_the_mysql_client_where_tls_is_required(server: Server, known: Known, certificate: ssl.SSLContext) -> None:
    with serving(known.plain, certificate=certificate, require_tls=True) as ours:
        done = mysql_cli(server, ours.port, "plain", "--ssl-mode=DISABLED", "-e", "SELECT 1")
        assert "ERROR 3159 (HY000)" in done.stderr
        done = mysql_cli(server, ours.port, "plain", "-e", "SELECT all kinds")
        assert done.returncode == 0, done.stderr


def test_a_thousand_logins_at_our_server(known: Known) -> None:
    with serving(known.sha2, known.plain) as ours:
        for number in range(LOGINS):
            user = ("sha2", "plain")[number % 2]
            pymysql.connect(
                host="127.0.0.1", port=ours.port, user=user, password=PASSWORD.encode(), ssl_disabled=True
            ).close()
        assert len(ours.logins) == LOGINS
        assert ours.refusals == []
