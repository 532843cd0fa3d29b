"""The table of docs/operations.md against the source: every alarm has its line. And the files under contrib/."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from binlogd import errors
from binlogd.config import load_settings

ROOT = Path(__file__).parent.parent
CONTRIB = ROOT / "contrib"


def alarm_codes() -> set[str]:
    """Every code that an alarm can have."""
    source = {path: path.read_text() for path in (ROOT / "src/binlogd").rglob("*.py")}
    found = {one.alarm for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "alarm")}
    for text in source.values():
        found |= set(re.findall(r'Alarm\(\s*"(?:critical|warning)",\s*"(\w+)"', text))
    disk = source[ROOT / "src/binlogd/store/disk.py"]
    found |= set(re.findall(r'^(?:DISK_FULL|STORE_MISSING) = "(\w+)"', disk, re.MULTILINE))
    found |= set(re.findall(r'"((?:disk|file|too|store)_[a-z_]+)"', disk))
    return found


def test_every_alarm_is_in_the_table() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    rows = re.findall(
        r"^\| (`[^|]*`) \|", text.partition("## Troubleshooting")[2].partition("By what")[0], re.MULTILINE
    )
    listed = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    codes = alarm_codes()
    assert {"receiver_failed", "disk_full", "too_many_files", "source_lost", "no_semi_sync"} <= codes
    assert codes == listed


def test_links_lead_somewhere() -> None:
    for page in ("install.md", "operations.md", "quickstart.zh-CN.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "docs" / page).read_text()):
            assert (ROOT / "docs" / link).exists(), f"{page}: {link}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_the_unit_is_sound_and_hardened(tmp_path: Path) -> None:
    text = (CONTRIB / "systemd/binlogd.service").read_text()
    unit = tmp_path / "binlogd.service"
    unit.write_text(text.replace("/usr/bin/binlogd", "/bin/true").replace("Documentation=man:binlogd(1)", ""))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "binlogd.service" in done.stderr) == (0, False), done.stderr
    arguments = ["security", "--offline=true", "--threshold=15", "--no-pager", str(unit)]
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-300:]


def test_what_the_image_copies_is_there_and_its_settings_load(tmp_path: Path) -> None:
    lines = (CONTRIB / "docker/Dockerfile").read_text().replace("\\\n", "").splitlines()
    for copied in (line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line):
        assert all((ROOT / name).exists() for name in copied), copied
    (setting,) = [line for line in lines if line.startswith("ENV ")]
    environ = dict(word.split("=", 1) for word in setting.split()[1:])
    compose = (CONTRIB / "docker/compose.yaml").read_text()
    for name in re.findall(r"\./([\w.-]+\.sh):", compose):
        subprocess.run(["sh", "-n", CONTRIB / "docker" / name], check=True, timeout=30)
    environ |= dict(re.findall(r"^ +(BINLOGD_\w+): (\S+)$", compose, re.MULTILINE))
    (tmp_path / "repl").write_text("secret\n")
    assert environ["BINLOGD_SOURCE__PASSWORD_FILE"] == "/run/secrets/repl"
    environ["BINLOGD_SOURCE__PASSWORD_FILE"] = str(tmp_path / "repl")
    settings = load_settings(environ=environ)
    assert (settings.source.hosts[0], settings.source.user) == (("source", 3306), "repl")
    assert settings.server.listen == ("0.0.0.0", 3307)
    assert str(settings.data_dir) == "/var/lib/binlogd"


@pytest.mark.parametrize("removed", [False, True], ids=["as shipped", "configuration removed by the administrator"])
def test_the_package_is_configured_whatever_the_service_does(tmp_path: Path, removed: bool) -> None:
    """An upgrade whose restart fails, and one without the file: dpkg must not be left half-way."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, code in (("getent", 0), ("install", 0), ("chown", 0), ("systemctl", 1)):
        (commands / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/said\n')
        if code:  # the restart fails; what comes before it does not
            with (commands / name).open("a") as script:
                script.write('case "$*" in *restart*) exit 1; esac\n')
        (commands / name).chmod(0o755)
    (tmp_path / "systemd").mkdir()
    config = tmp_path / "binlogd.toml"
    if not removed:
        config.write_text("")
    text = (CONTRIB / "debian/postinst").read_text()
    text = text.replace("/run/systemd/system", str(tmp_path / "systemd")).replace("/etc/binlogd", str(tmp_path))
    environ = {"PATH": f"{commands}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", text, "postinst", "configure", "0.0.9"], env=environ, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    said = (tmp_path / "said").read_text().splitlines()
    assert "install -d -m 0700 -o binlogd -g binlogd /var/lib/binlogd" in said, "`binlogd check` comes before the start"
    assert "systemctl --no-block try-restart binlogd.service" in said, "which may take as long as the store is large"
    assert (f"chown root:binlogd {config}" in said) is not removed
    if not removed:
        assert config.stat().st_mode & 0o777 == 0o640
