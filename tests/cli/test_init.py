"""binlogd init: a private file that is never an older one's end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from binlogd.config import load_settings
from binlogd.config.template import render_template


def init(folder: Path, *arguments: str, umask: int = 0o022) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "binlogd", "init", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, umask=umask, check=False)


@pytest.mark.parametrize(("arguments", "name"), [([], "binlogd.toml"), (["my.toml"], "my.toml")])
def test_writes_the_file(tmp_path: Path, arguments: list[str], name: str) -> None:
    result = init(tmp_path, *arguments, umask=0)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{name}: ") and f"binlogd check -c {name}" in result.stdout
    file = tmp_path / name
    assert file.read_text(encoding="utf-8") == render_template()
    assert file.stat().st_mode & 0o777 == 0o600
    settings = load_settings(str(file), source="mysql://u:p@h", environ={})
    assert settings == load_settings(str(_empty(tmp_path)), source="mysql://u:p@h", environ={})


def _empty(folder: Path) -> Path:
    file = folder / "empty.toml"
    file.touch()
    return file


def refused(folder: Path, *arguments: str) -> str:
    result = init(folder, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "binlogd.toml").write_text("mine")
    assert refused(tmp_path) == "binlogd: binlogd.toml exists and is not overwritten — name another file\n"
    assert (tmp_path / "binlogd.toml").read_text() == "mine"
    (tmp_path / "link.toml").symlink_to("elsewhere")
    assert "exists" in refused(tmp_path, "link.toml")
    assert not (tmp_path / "elsewhere").exists()


def test_cannot_write(tmp_path: Path) -> None:
    assert refused(tmp_path, "no/folder.toml").startswith("binlogd: cannot write no/folder.toml: No such file")
    assert "Got unexpected extra argument" in refused(tmp_path, "a", "b")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_stdout_full_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "binlogd", "init"]
        result = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("binlogd: No space left on device")
    assert len(result.stderr.splitlines()) == 1
