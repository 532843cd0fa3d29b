"""Wheels and the source distribution: what they hold, and that what is installed from them runs, compiled or not.

Built and installed without a network: what is needed for either is what development needs anyway.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from binlogd import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SOURCES = ("src", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
HOT = {"binlogd/binlog/excerpt", "binlogd/binlog/framing", "binlogd/binlog/walk"}
PAGE = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src/binlogd/web/page").iterdir()}
TIMEOUT = 600  # seconds for a build on a busy machine; 30 on an idle one

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def run(*arguments: str | Path, cwd: Path, **environ: str) -> str:
    """stdout of a command that must succeed, in an environment without BINLOGD_… but for ``environ``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BINLOGD_", "PYTHON"))}
    done = subprocess.run(
        arguments, cwd=cwd, env=kept | environ, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built, away from what was built before."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def built(tree: Path) -> tuple[Path, Path]:
    """(source distribution, wheel), as ``make wheel`` makes them."""
    run(sys.executable, "-m", "build", "--no-isolation", cwd=tree)
    (sdist,) = (tree / "dist").glob("*.tar.gz")
    (wheel,) = (tree / "dist").glob("*.whl")
    return sdist, wheel


class Installed:
    """A virtual environment with binlogd from a package, and its dependencies from this one."""

    def __init__(self, folder: Path, package: Path, **environ: str) -> None:
        self.folder = folder
        run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
        self.python = folder / "bin" / "python"
        (site,) = folder.glob("lib/python*/site-packages")
        # Paths in it are not looked through for .pth files: the binlogd under development is not found.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        options = ("--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--disable-pip-version-check")
        run(self.python, "-m", "pip", "install", "--ignore-installed", *options, package, cwd=folder, **environ)
        found = run(self.python, "-c", "import binlogd; print(binlogd.__file__)", cwd=folder)
        assert found.startswith(str(site)), found

    def build_line(self, **environ: str) -> str:
        """What ``binlogd check`` says of the build."""
        script = "import sys; from binlogd.cli.main import main; sys.exit(main(sys.argv[1:]) != 1)"
        source = ("--source", "mysql://repl:x@127.0.0.1:1")  # where nobody listens: the check fails, as it must
        shown = run(self.python, "-c", script, "check", "--json", *source, cwd=self.folder, **environ)
        line = next(line for line in json.loads(shown)["checks"] if line["subject"] == "build")
        return f"{line['status']}: {line['message']} — {line['hint']}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "venv"
    shutil.rmtree(tmp_path / "venv", ignore_errors=True)


def compiled_in(names: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in names if name.endswith(".so")}


@needs_compiler
def test_the_wheel_is_compiled(built: tuple[Path, Path], folder: Path) -> None:
    names = zipfile.ZipFile(built[1]).namelist()
    assert compiled_in(names) == HOT
    assert PAGE
    assert not PAGE.difference(names)
    installed = Installed(folder, built[1])
    assert installed.build_line() == "ok: compiled — "
    plain = installed.build_line(BINLOGD_PURE="1")
    assert plain.startswith("warn: plain Python") and plain.endswith("unset BINLOGD_PURE")
    assert run(folder / "bin" / "binlogd", "--version", cwd=folder) == f"binlogd {__version__}\n"


def test_the_source_distribution_holds_what_is_needed_and_nothing_built(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "src/binlogd").rglob("*.[phy]*[ydh]") if path.is_file()}
    assert modules and modules <= names
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert {name.removeprefix("src/") for name in names} >= PAGE
    assert not [name for name in names if name.endswith((".so", ".c", ".pyc")) or name.startswith("tests")]


def test_without_a_compiler_the_source_distribution_installs_and_runs_plain(
    built: tuple[Path, Path], folder: Path
) -> None:
    installed = Installed(folder, built[0], CC="/bin/false")
    assert not list(folder.rglob("*/binlogd/**/*.so"))
    line = installed.build_line()
    assert line.startswith("warn: plain Python: it does the same, many times as slowly — install a C compiler")


def test_a_plain_wheel_fits_every_machine(tree: Path, folder: Path) -> None:
    out = tree / "plain"
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, cwd=tree, BINLOGD_PURE="1")
    (wheel,) = out.iterdir()
    assert wheel.name == f"binlogd-{__version__}-py3-none-any.whl"
    assert compiled_in(zipfile.ZipFile(wheel).namelist()) == set()
    assert Installed(folder, wheel).build_line().startswith("warn: plain Python")
