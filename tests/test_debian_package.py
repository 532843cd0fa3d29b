"""The Debian package: built, looked into, unpacked, and its binlogd run from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from binlogd import __version__

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="there is no dpkg-deb"),
]
ROOT = Path(__file__).parent.parent


CHECKED = ("--source", "mysql://repl:x@127.0.0.1:1", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
"""A source where nobody listens: the check fails there, and nowhere else."""


def run(*argv: str | Path, code: int = 0) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BINLOGD_", "PYTHON"))}
    done = subprocess.run(argv, env=kept, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@contextmanager
def masked(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_built_and_unpacked(tmp_path: Path) -> None:
    with masked(0o077):  # of whoever builds it; the service runs as another account
        run(ROOT / "contrib/debian/build.sh", tmp_path)
    (package,) = tmp_path.glob("*.deb")
    listed = {line.split()[5]: line.split()[:2] for line in run("dpkg-deb", "-c", package).splitlines()}
    assert listed["./etc/binlogd/binlogd.toml"] == ["-rw-r-----", "root/root"]
    assert listed["./usr/bin/binlogd"][0].startswith("l")
    for name in (
        "./lib/systemd/system/binlogd.service",
        "./usr/lib/sysusers.d/binlogd.conf",
        "./usr/share/man/man1/binlogd.1.gz",
        "./usr/share/bash-completion/completions/binlogd",
    ):
        assert listed[name] == ["-rw-r--r--", "root/root"], name
    for name in ("./opt/binlogd/", "./opt/binlogd/bin/", "./opt/binlogd/bin/binlogd", "./etc/binlogd/"):
        assert listed[name][0][1:] == "rwxr-xr-x", name
    assert run("dpkg-deb", "-f", package, "Version").strip() == __version__
    control = tmp_path / "control"
    run("dpkg-deb", "-e", package, control)
    assert (control / "conffiles").read_text() == "/etc/binlogd/binlogd.toml\n"
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", control / script)
    root = tmp_path / "root"
    run("dpkg-deb", "-x", package, root)
    assert (root / "opt/binlogd/bin/binlogd").read_text().startswith("#!/opt/binlogd/bin/python")
    python = root / "opt/binlogd/bin/python"
    lines = json.loads(run(python, "-m", "binlogd", "check", "--json", *CHECKED, code=1))["checks"]
    status = {line["subject"]: line["status"] for line in lines}
    assert (status["configuration"], status["build"], status["source.connection"]) == ("ok", "ok", "fail"), lines
    assert run(python, "-m", "binlogd", "--version") == f"binlogd {__version__}\n"
    assert run(python, "-c", "from binlogd.binlog import compiled; print(compiled())").strip() == "True"
