"""One real server: made, started, asked, killed and followed.

A server lives in a folder of its own::

    FOLDER/my.cnf       what it was started with, to be read when something is odd
    FOLDER/error.log    stderr, appended to over all starts
    FOLDER/data/        the data folder, binary logs included (mysql-bin.NNNNNN)

Its socket is elsewhere, in a short temporary folder: a Unix socket's path is limited to 108 bytes and
pytest's folders are long. Its port is reserved for as long as the object is open, so that it is the same
after a restart.

Defaults suit tests: GTIDs on, row format, no syncing of anything (a killed process loses nothing of what it
wrote, only a killed machine does), small buffers, performance schema off. Every one can be overridden by
name.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pymysql
from pymysql.connections import Connection
from pymysql.converters import escape_string

from testbed import processes
from testbed.distributions import Distribution, as_root
from testbed.ports import Port

START_TIMEOUT = 120.0
"""Seconds until a server must answer: 1–2 on an idle machine, more where many start on two cores."""

STOP_TIMEOUT = 120.0
"""Seconds from SIGTERM to the exit."""

POLL_INTERVAL = 0.02
"""Seconds between two looks at a condition."""

LOG_TAIL_LINES = 40

LONGEST_SOCKET_PARENT = 80
"""Bytes: sockaddr_un takes 108, a NUL and our folder's and the socket's own names included."""

NOISE = re.compile(r"\[Note\] .*(InnoDB[]:]|[Pp]lugin '|SSL|RSA|Server socket|resolves to)")
"""Notes that every start and stop leaves in the error log by the dozen."""

SemiSync = Literal["", "source", "replica", "both"]
Option = str | int | bool | None | Sequence[str]
Row = tuple[Any, ...]


def _short_folder() -> Path:
    """A new temporary folder whose path leaves room for a socket's name."""
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="binlogd-", dir=parent if len(parent) < LONGEST_SOCKET_PARENT else "/tmp"))


class ServerFailed(RuntimeError):
    """A server did not start, stop or get where it should; the message ends with its error log's tail."""


@dataclass(frozen=True, slots=True)
class BinaryLog:
    """One line of SHOW BINARY LOGS."""

    name: str
    size: int


class Variables(MutableMapping[str, Any]):
    """The global variables: reading selects, writing sets."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __getitem__(self, name: str) -> Any:
        try:
            return self._server.value(f"SELECT @@GLOBAL.{name}")
        except pymysql.err.OperationalError as error:
            if error.args[0] == 1193:  # ER_UNKNOWN_SYSTEM_VARIABLE
                raise KeyError(name) from None
            raise

    def __setitem__(self, name: str, value: Any) -> None:
        self._server.query(f"SET GLOBAL {name} = %s", value)

    def __delitem__(self, name: str) -> None:
        self._server.query(f"SET GLOBAL {name} = DEFAULT")

    def __iter__(self) -> Iterator[str]:
        return (row[0] for row in self._server.query("SHOW GLOBAL VARIABLES"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Server:
    """A server of ``distribution`` in ``folder``; nothing runs before :meth:`start`.

    ``options`` are lines of its my.cnf: ``None`` leaves a default of ours out, ``True`` and ``False`` become
    ON and OFF, a list repeats the option. ``semi_sync`` loads and enables the plugins of the sides named.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        distribution: Distribution,
        folder: Path,
        *,
        name: str = "server",
        semi_sync: SemiSync = "",
        options: Mapping[str, Option] | None = None,
    ) -> None:
        self.distribution = distribution
        plugins = self._semi_sync(semi_sync)  # refuses before anything is taken that must be given back
        self.folder = folder
        self.name = name
        self.data = folder / "data"
        self.variables = Variables(self)
        self._port = Port()
        self.port = self._port.number
        self.server_id = self.port  # unique as long as the port is
        self._run_folder = _short_folder()
        self.socket = self._run_folder / "s"
        self._error_log = folder / "error.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.options: dict[str, Option] = {
            **self._defaults(),
            **plugins,
            **(options or {}),
        }

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.is_running else "down"
        return f"<{self.name}: {self.distribution.label} on port {self.port}, {state}>"

    # ------------------------------------------------------------------------------------------ configuration

    def _defaults(self) -> dict[str, Option]:
        version = self.distribution.version
        common: dict[str, Option] = {
            **self.distribution.settings,
            "datadir": str(self.data),
            "socket": str(self.socket),
            "pid_file": str(self._run_folder / "pid"),
            "port": self.port,
            "bind_address": self.host,
            "skip_name_resolve": True,
            "secure_file_priv": "",
            "server_id": self.server_id,
            "log_bin": "mysql-bin",
            "relay_log": "relay-bin",
            "binlog_format": "ROW",
            "sync_binlog": 0,
            "innodb_flush_log_at_trx_commit": 2,
            "innodb_doublewrite": False,
            "innodb_buffer_pool_size": "32M",
            "performance_schema": False,
        }
        if self.distribution.is_mariadb:
            return common | {"log_slave_updates": True, "gtid_strict_mode": True}
        common |= {"gtid_mode": "ON", "enforce_gtid_consistency": "ON"}
        if not self.distribution.new_words:
            return common | {"log_slave_updates": True, "master_info_repository": "TABLE"}
        # While the event scheduler's thread lives, mysqld waits 8 s at shutdown for its dump threads.
        common["event_scheduler"] = "DISABLED"
        common |= {"mysqlx": False, "log_error_verbosity": 3}
        if version >= (8, 0, 30):
            common["innodb_redo_log_capacity"] = "32M"
        if version >= (8, 0, 34):
            common["binlog_format"] = None  # ROW is the default; naming it earns a deprecation warning
        return common

    def _semi_sync(self, sides: SemiSync) -> dict[str, Option]:
        wanted = ("source", "replica") if sides == "both" else (sides,) if sides else ()
        options: dict[str, Option] = {}
        plugins = []
        for side in wanted:
            word = side if self.distribution.new_words else {"source": "master", "replica": "slave"}[side]
            if self.distribution.has_semi_sync_plugins:
                plugins.append(f"semisync_{word}.so")
            elif not self.distribution.is_mariadb:
                raise ServerFailed(f"{self.distribution.label} comes without the semi-sync plugins")
            options[f"rpl_semi_sync_{word}_enabled"] = True
        if plugins:
            options = {"plugin_load_add": plugins, **options}
        return options

    def _write_configuration(self) -> Path:
        lines = ["[mysqld]"]
        for key, option in self.options.items():
            if option is None:
                continue
            values: Sequence[str | int] = [option] if isinstance(option, str | int) else option
            lines += [f"{key} = {('OFF', 'ON')[v] if isinstance(v, bool) else v}" for v in values]
        path = self.folder / "my.cnf"
        path.write_text("\n".join(lines) + "\n")
        return path

    # --------------------------------------------------------------------------------------------------- life

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.name} was never started")
        return self._process.pid

    def start(self, *, timeout: float = START_TIMEOUT, **options: Option) -> Server:
        """Start it and wait until it answers queries; ``options`` change its configuration from now on."""
        if self.is_running:
            raise ServerFailed(f"{self!r} is already running")
        self.options |= options
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.data.exists():
            self.distribution.copy_template(self.data)
        argv = [*self.distribution.mysqld, f"--defaults-file={self._write_configuration()}", *as_root()]
        self._process = processes.start(argv, cwd=self.folder, log=self._error_log, environ=self.distribution.environ)
        deadline = time.monotonic() + timeout
        while True:
            if (code := self._process.poll()) is not None:
                raise self._failure(f"{self.name} exited with code {code} while starting")
            try:
                self.connect(connect_timeout=5).close()
            except pymysql.err.OperationalError as error:
                if time.monotonic() > deadline:
                    self.kill()
                    raise self._failure(f"{self.name} did not answer within {timeout:.0f} s: {error}") from error
            else:
                return self
            time.sleep(POLL_INTERVAL)

    def stop(self, *, timeout: float = STOP_TIMEOUT) -> None:
        """Shut it down in order and wait for its exit; nothing happens when it is down."""
        if not self.is_running:
            return
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._failure(f"{self.name} did not shut down within {timeout:.0f} s; killed it") from None
        if code:
            raise self._failure(f"{self.name} ended with code {code}")

    def kill(self) -> None:
        """Kill it as a crash would and wait until it is gone."""
        if self.is_running:
            assert self._process is not None
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process as a hung machine would (SIGSTOP) for the duration of the block."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def restart(self, **options: Option) -> Server:
        """Stop in order and start again, with ``options`` changed."""
        self.stop()
        self.options |= options
        return self.start()

    def close(self, *, keep_data: bool = False) -> None:
        """Kill it, release its port, remove its data and its socket. The error log stays."""
        self.kill()
        self._port.release()
        shutil.rmtree(self._run_folder, ignore_errors=True)
        if not keep_data:
            shutil.rmtree(self.data, ignore_errors=True)

    @property
    def error_log(self) -> str:
        """All that it ever wrote to its error log."""
        return self._error_log.read_text(errors="replace") if self._error_log.exists() else ""

    def error_log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last ``lines`` that tell something: InnoDB's notes and the plugins' farewells are left out."""
        telling = [line for line in self.error_log.splitlines() if not NOISE.search(line)]
        return "\n".join(telling[-lines:])

    def _failure(self, text: str) -> ServerFailed:
        return ServerFailed(f"{text}\n--- {self.name}'s error log\n{self.error_log_tail()}")

    # ---------------------------------------------------------------------------------------------------- SQL

    def connect(self, *, user: str = "root", password: str = "", **options: Any) -> Connection[Any]:
        """A PyMySQL connection, autocommit and without TLS unless ``options`` say otherwise; the caller closes it.

        For TLS PyMySQL reads the machine's certificates at every connection, which takes it longer than most tests
        take for what they ask.
        """
        arguments: dict[str, Any] = {
            "autocommit": True,
            "ssl_disabled": True,
            "connect_timeout": 30,
            "charset": "utf8mb4",
            **options,
        }
        return pymysql.connect(host=self.host, port=self.port, user=user, password=password, **arguments)

    def query(self, sql: str, *params: Any, database: str | None = None) -> list[Row]:
        """Run one statement on a connection of its own; all rows."""
        connection = self.connect(database=database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, params or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def execute(self, *statements: str, database: str | None = None) -> None:
        """Run statements one after the other in one session."""
        connection = self.connect(database=database)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
        finally:
            connection.close()

    def value(self, sql: str, *params: Any) -> Any:
        """The first cell of the first row."""
        return self.query(sql, *params)[0][0]

    def create_user(
        self,
        name: str,
        password: str = "",
        *,
        plugin: str | None = None,
        privileges: str = "REPLICATION SLAVE, REPLICATION CLIENT",
        require: str = "NONE",
        logged: bool = True,
    ) -> None:
        """Create an account for any host with global ``privileges``; ``require`` may be SSL or X509.

        ``logged=False`` keeps it out of the binary log and out of the GTID set.
        """
        account, secret = f"'{escape_string(name)}'@'%'", f"'{escape_string(password)}'"
        identified = f"IDENTIFIED BY {secret}"
        if plugin and self.distribution.is_mariadb:
            identified = f"IDENTIFIED VIA {plugin} USING PASSWORD({secret})"
        elif plugin:
            identified = f"IDENTIFIED WITH {plugin} BY {secret}"
        session = f"SET SESSION sql_log_bin = {int(logged)}"
        if self.distribution.version < (5, 7, 0):
            old = f"GRANT {privileges} ON *.* TO {account} IDENTIFIED BY {secret} REQUIRE {require}"
            self.execute(session, old)
        else:
            create = f"CREATE USER {account} {identified} REQUIRE {require}"
            self.execute(session, create, f"GRANT {privileges} ON *.* TO {account}")

    # ----------------------------------------------------------------------------------------- the binary log

    @property
    def binlog_dir(self) -> Path:
        return self.data

    def binary_logs(self) -> list[BinaryLog]:
        """Name and size of each binary log, oldest first."""
        return [BinaryLog(row[0], row[1]) for row in self.query("SHOW BINARY LOGS")]

    def position(self) -> tuple[str, int]:
        """File and offset behind the newest transaction."""
        new = self.distribution.has_new_status_statements
        row = self.query("SHOW BINARY LOG STATUS" if new else "SHOW MASTER STATUS")[0]
        return row[0], row[1]

    @property
    def gtid_executed(self) -> str:
        """The GTID set without line breaks; MariaDB's position per domain."""
        name = "gtid_current_pos" if self.distribution.is_mariadb else "gtid_executed"
        return str(self.variables[name]).replace("\n", "")

    @property
    def server_uuid(self) -> str:
        return str(self.variables["server_uuid"])

    # ------------------------------------------------------------------------------------------------ waiting

    def wait_until(self, condition: str | Callable[[], Any], *, timeout: float = 30.0, what: str = "") -> Any:
        """Wait until the SQL's first cell, or what the callable returns, is true; that value.

        Raises :class:`ServerFailed` with the last value, the replica's state and the error log after
        ``timeout`` seconds, at once when the server dies.
        """
        deadline = time.monotonic() + timeout
        while True:
            rows: Any = self.query(condition) if isinstance(condition, str) else condition()
            seen = (rows[0][0] if rows else None) if isinstance(condition, str) else rows
            if seen:
                return seen
            if not self.is_running:
                raise self._failure(f"{self.name} is down")
            if time.monotonic() > deadline:
                what = what or (condition if isinstance(condition, str) else repr(condition))
                state = f"last seen {seen!r}; {self._replica_summary()}"
                raise self._failure(f"{self.name}: no {what!r} within {timeout:.0f} s; {state}")
            time.sleep(POLL_INTERVAL)

    def _replica_summary(self) -> str:
        status = self.replica_status()
        keys = (
            "Replica_IO_State",
            "Replica_IO_Running",
            "Replica_SQL_Running",
            "Last_IO_Error",
            "Last_SQL_Error",
        )
        return ", ".join(f"{key}: {status[key]!r}" for key in keys if key in status) or "not a replica"

    def wait_for_gtid(self, gtid_set: str, *, timeout: float = 60.0) -> None:
        """Wait until ``gtid_set`` is executed here; raises as soon as replication stops with an error."""
        if self.distribution.is_mariadb:
            sql, done = "SELECT MASTER_GTID_WAIT(%s, 0.25)", 0
        else:
            # 5.6 has no waiting function without a running replica; this one is in all versions.
            sql, done = "SELECT GTID_SUBSET(%s, @@GLOBAL.gtid_executed)", 1
        deadline = time.monotonic() + timeout
        while self.value(sql, gtid_set) != done:
            status = self.replica_status()
            for thread in ("IO", "SQL"):
                error = status.get(f"Last_{thread}_Error")
                if error and status[f"Replica_{thread}_Running"] == "No":
                    raise self._failure(f"{self.name} stopped replicating: {error}")
            if time.monotonic() > deadline:
                state = f"but {self.gtid_executed}; {self._replica_summary()}"
                raise self._failure(f"{self.name} has not executed {gtid_set} within {timeout:.0f} s {state}")
            time.sleep(POLL_INTERVAL)

    # -------------------------------------------------------------------------------------------- replication

    def _words(self, sql: str) -> str:
        """New spelling to what this server understands."""
        if self.distribution.new_words:
            return sql
        return sql.replace("REPLICATION SOURCE", "MASTER").replace("REPLICA", "SLAVE").replace("SOURCE", "MASTER")

    def follow(
        self,
        host: str,
        port: int,
        user: str = "repl",
        password: str = "",
        *,
        auto_position: bool = True,
        file: str = "",
        pos: int = 4,
        start: bool = True,
        **options: Any,
    ) -> None:
        """CHANGE REPLICATION SOURCE TO, by GTID or (``file`` given) by position, and START REPLICA.

        ``options`` are further ones in the new spelling, e.g. ``SOURCE_SSL=1``. No TLS and retries after one
        second unless they say otherwise.
        """
        settings: dict[str, str | int] = {"SOURCE_HOST": host, "SOURCE_PORT": port}
        settings |= {
            "SOURCE_USER": user,
            "SOURCE_PASSWORD": password,
            "SOURCE_CONNECT_RETRY": 1,
            "SOURCE_SSL": 0,
        }
        if not self.distribution.is_mariadb:
            settings["SOURCE_RETRY_COUNT"] = 86400
            if self.distribution.new_words:
                settings["GET_SOURCE_PUBLIC_KEY"] = 1
        if file:
            settings |= {"SOURCE_LOG_FILE": file, "SOURCE_LOG_POS": pos}
            auto_position = False
        if not self.distribution.is_mariadb:
            settings["SOURCE_AUTO_POSITION"] = int(auto_position)
        settings |= options
        parts = [
            f"{key} = {value}" if isinstance(value, int) else f"{key} = '{escape_string(value)}'"
            for key, value in settings.items()
        ]
        words = [self._words(part.split(" = ", 1)[0]) + " = " + part.split(" = ", 1)[1] for part in parts]
        if self.distribution.is_mariadb:
            words.append(f"MASTER_USE_GTID = {'slave_pos' if auto_position else 'no'}")
        self.execute(self._words("CHANGE REPLICATION SOURCE TO ") + ", ".join(words))
        if start:
            self.start_replica()

    def start_replica(self, thread: Literal["", "IO_THREAD", "SQL_THREAD"] = "") -> None:
        self.execute(self._words(f"START REPLICA {thread}"))

    def stop_replica(self, thread: Literal["", "IO_THREAD", "SQL_THREAD"] = "") -> None:
        self.execute(self._words(f"STOP REPLICA {thread}"))

    def reset_replica(self) -> None:
        """RESET REPLICA ALL: forget the source, drop the relay logs."""
        self.execute(self._words("RESET REPLICA ALL"))

    def replica_status(self) -> dict[str, Any]:
        """SHOW REPLICA STATUS under its new column names; empty when this is no replica."""
        connection = self.connect(cursorclass=pymysql.cursors.DictCursor)
        try:
            with connection.cursor() as cursor:
                cursor.execute(self._words("SHOW REPLICA STATUS"))
                row = cursor.fetchone() or {}
        finally:
            connection.close()
        return {
            re.sub("^Slave_|_Slave_", lambda m: m[0].replace("Slave", "Replica"), key).replace(
                "Master_", "Source_"
            ): value
            for key, value in row.items()
        }

    # ---------------------------------------------------------------------------------------- client programs

    def program(self, name: str) -> list[str]:
        """argv prefix of a client program of this server's distribution."""
        return self.distribution.program(name)

    def client(self, name: str, *args: str, user: str = "root", password: str = "") -> list[str]:
        """argv of a client program that connects here by TCP, with ``args`` behind."""
        secret = [f"--password={password}"] if password else []
        address = ["--protocol=tcp", f"--host={self.host}", f"--port={self.port}", f"--user={user}"]
        return [*self.program(name), "--no-defaults", *address, *secret, *args]

    def run(self, name: str, *args: str, stdin: bytes = b"", timeout: float = 300.0) -> bytes:
        """Run a client program against this server; its stdout. Raises with its stderr when it fails."""
        done = subprocess.run(
            self.client(name, *args),
            input=stdin,
            env={**os.environ, **self.distribution.environ},
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"{name} failed with code {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout
