"""The Debian package: built, looked into, unpacked, and its binlogd run from there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from binlogd import __version__

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="there is no dpkg-deb"),
]
ROOT = Path(__file__).parent.parent


def run(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_built_and_unpacked(tmp_path: Path) -> None:
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
    assert run(python, "-m", "binlogd", "--version") == f"binlogd {__version__}\n"
    assert run(python, "-c", "from binlogd.binlog import compiled; print(compiled())").strip() == "True"
