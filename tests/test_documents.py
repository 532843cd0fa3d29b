"""What is made from the program is up to date and works: the reference, the man page, the completions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from binlogd.cli.main import COMMANDS
from binlogd.config.model import walk
from tools.documents import DOCUMENTS, ROOT


@pytest.mark.parametrize("name", DOCUMENTS)
def test_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == DOCUMENTS[name](), "run: make docs"


def test_the_reference_has_every_key() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    for key in walk():
        if key.table is None and key.path[:2] != ("server", "users"):
            assert f"`BINLOGD_{'__'.join(key.path).upper()}`" in text
    assert re.search(r"`data_dir` .*restart", text)
    assert re.search(r"`hosts` .*at once \| `BINLOGD_SOURCE__HOSTS`", text)


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_the_man_page_is_sound() -> None:
    page = ROOT / "contrib/man/binlogd.1"
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Tutf8", str(page)], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    for name in COMMANDS:
        assert f".SS binlogd {name} " in page.read_text()


def completed(words: str, cwd: Path) -> list[str]:
    """What a real bash offers behind these words."""
    script = (
        f"source {ROOT}/contrib/completion/binlogd.bash\n"
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n"
        "_binlogd_completion binlogd; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    program = cwd / "bin"
    program.mkdir(exist_ok=True)
    (program / "binlogd").write_text(f'#!/bin/sh\nexec {sys.executable} -m binlogd "$@"\n')
    (program / "binlogd").chmod(0o755)
    environ = os.environ | {"PATH": f"{program}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path: Path) -> None:
    assert set(completed("binlogd ''", tmp_path)) >= set(COMMANDS)
    assert completed("binlogd ver", tmp_path) == ["verify"]
    assert completed("binlogd verify --rep", tmp_path) == ["--repair"]
    assert completed("binlogd run --log-level w", tmp_path) == ["warning"]
