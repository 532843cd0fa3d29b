"""The seam to the operating system, and the order that makes its steps survive a power loss."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from binlogd.errors import StoreUnreadable
from binlogd.store.disk import Disk, explained
from tests.store.support import Recording


def test_appending_and_cutting(tmp_path: Path) -> None:
    disk = Disk()
    path = tmp_path / "f"
    descriptor = disk.create(path)
    disk.write(descriptor, b"abc")
    disk.write(descriptor, memoryview(b"defgh"))
    disk.write(descriptor, b"")
    disk.truncate(descriptor, 5)
    disk.write(descriptor, b"X")
    disk.sync(descriptor)
    disk.close(descriptor)
    assert path.read_bytes() == b"abcdeX"
    descriptor = disk.open_append(path)
    disk.write(descriptor, b"Y")
    disk.close(descriptor)
    assert path.read_bytes() == b"abcdeXY"
    disk.close(disk.create(path))
    assert path.read_bytes() == b""


def test_what_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        disk = Disk()
        disk.make_folder(tmp_path / "a" / "b")
        disk.close(disk.create(tmp_path / "a" / "f"))
        disk.replace(tmp_path / "a" / "g", b"")
    finally:
        os.umask(old)
    modes = {name: stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) for name in ("", "b", "f", "g")}
    assert modes == {"": 0o700, "b": 0o700, "f": 0o600, "g": 0o600}


def test_descriptors_are_not_inherited(tmp_path: Path) -> None:
    disk = Disk()
    for descriptor in (disk.create(tmp_path / "f"), disk.open_append(tmp_path / "f")):
        assert not os.get_inheritable(descriptor)
        disk.close(descriptor)


def test_replace_is_whole_before_it_is_seen(tmp_path: Path) -> None:
    disk = Recording()
    disk.replace(tmp_path / "f", b"1")
    assert disk.steps == ["create .f.new", "write .f.new", "sync .f.new", "rename .f.new f", "sync folder"]


def test_a_replace_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    class Full(Disk):
        def sync(self, descriptor: int) -> None:
            raise OSError(28, "No space left on device")

    Disk().replace(tmp_path / "f", b"old")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space"):
        Full().replace(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    disk = Disk()
    descriptor = disk.create(tmp_path / "f")
    disk.write(descriptor, b"abcdefgh")
    disk.close(descriptor)
    assert (tmp_path / "f").read_bytes() == b"abcdefgh"


def test_folders_are_durable_with_their_parents(tmp_path: Path) -> None:
    disk = Recording()
    disk.make_folder(tmp_path / "a" / "b" / "c")
    assert disk.steps == ["sync folder"] * 4, "of the one that was there, too: whoever made it may have died"
    disk.make_folder(tmp_path / "a" / "b")
    assert disk.steps == ["sync folder"] * 5


def test_a_folder_that_others_made_where_we_may_not_look(tmp_path: Path) -> None:
    class Closed(Recording):
        def sync_folder(self, path: Path) -> None:
            if path == tmp_path:
                raise PermissionError(13, "Permission denied")
            super().sync_folder(path)

    (tmp_path / "a").mkdir()
    Closed().make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(PermissionError):
        Closed().make_folder(tmp_path / "c")


def test_a_file_in_a_folders_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(StoreUnreadable, match="cannot make"), explained("make", tmp_path / "a"):
        Disk().make_folder(tmp_path / "a" / "b")


def test_explained_says_what_was_done_to_which_path() -> None:
    with pytest.raises(StoreUnreadable) as caught, explained("open", Path("/nowhere/f")):
        os.open("/nowhere/f", os.O_RDONLY)
    assert caught.value.message == "cannot open /nowhere/f: No such file or directory"
    assert caught.value.hint
    assert caught.value.exit_code == 4
