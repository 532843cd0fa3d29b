"""The cache: where it is, and that what appears in it is complete, whoever builds it and however it ends."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from testbed import packages
from testbed.packages import Unavailable


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/h"}, "/h/.cache/binlogd-testbed"),
        ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/binlogd-testbed"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "/h/.cache/binlogd-testbed"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/binlogd-testbed"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x", "BINLOGD_TEST_CACHE": "/b"}, "/b"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x", "BINLOGD_TEST_CACHE": ""}, "/x/binlogd-testbed"),
    ],
)
def test_the_cache_folder(environ: dict[str, str], expected: str) -> None:
    assert packages.cache_dir(environ) == Path(expected)


def test_a_relative_cache_folder_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert packages.cache_dir({"BINLOGD_TEST_CACHE": "here"}) == tmp_path / "here"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder that does not exist yet."""
    folder = tmp_path / "deep" / "cache"
    monkeypatch.setenv("BINLOGD_TEST_CACHE", str(folder))
    return folder


def test_a_folder_appears_complete_or_not_at_all(cache: Path) -> None:
    final = cache / "packages" / "thing"

    def fail() -> None:
        with packages.built_once(final) as scratch:
            assert scratch is not None
            (scratch / "root").mkdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(final.parent.iterdir()) == []

    with packages.built_once(final) as scratch:
        assert scratch is not None
        (scratch / "root").mkdir()
        (scratch / "root" / "file").write_text("whole")
    assert (final / "file").read_text() == "whole"
    assert list(final.parent.iterdir()) == [final]

    with packages.built_once(final) as scratch:
        assert scratch is None


def test_leftovers_of_a_killed_builder_are_removed(cache: Path) -> None:
    final = cache / "packages" / "thing"
    stale = final.parent / ".thing.tmp-abc"
    stale.mkdir(parents=True)
    (stale / "half").write_text("half")
    other = final.parent / ".other.tmp-abc"
    other.mkdir()

    with packages.built_once(final) as scratch:
        assert scratch is not None
        (scratch / "root").mkdir()

    assert not stale.exists()
    assert other.exists()  # another bundle's builder may be at work there


def _build(final: Path) -> int:
    with packages.built_once(final) as scratch:
        if scratch is None:
            return 0
        (scratch / "root").mkdir()
        return 1


def test_of_many_builders_one_builds(cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        built = pool.map(_build, [cache / "packages" / "thing"] * 8, chunksize=1)
    assert sum(built) == 1


def test_a_failing_command_is_told_with_its_last_words() -> None:
    with pytest.raises(Unavailable, match=r"(?s)exit code 3.*out of cheese"):
        packages._run(["sh", "-c", "echo out of cheese >&2; exit 3"])


def test_a_tree_runs_programs_with_its_own_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    libraries = tmp_path / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    (libraries / "ld-linux-x86-64.so.2").touch()
    (tmp_path / "usr/sbin").mkdir()
    (tmp_path / "usr/sbin/mysqld").touch()
    tree = packages.Tree(tmp_path)

    assert tree.command("mysqld") == [
        str(libraries / "ld-linux-x86-64.so.2"),
        "--library-path",
        str(libraries),
        str(tmp_path / "usr/sbin/mysqld"),
    ]
    with pytest.raises(Unavailable, match="mysqldump is not among"):
        tree.command("mysqldump")
