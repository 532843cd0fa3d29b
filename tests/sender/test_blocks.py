"""The memory that dumps share, and files that are in the page cache or not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from binlogd.sender.blocks import BLOCK, ROUND, SPARE, TURN, Blocks, fetch


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[int]:
    """A file of three blocks, each of one letter; its descriptor."""
    path = tmp_path / "file"
    path.write_bytes(b"a" * BLOCK + b"b" * BLOCK + b"c" * BLOCK)
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_what_is_in_the_page_cache_is_read_at_once(stored: int) -> None:
    blocks = Blocks()
    assert blocks.read_cached(stored, BLOCK, BLOCK)
    assert blocks.block == b"b" * BLOCK
    assert blocks.read_cached(stored, 10, 0)
    assert blocks.block == b"a" * 10 + b"b" * (BLOCK - 10)
    assert not blocks.read_cached(stored, BLOCK, 3 * BLOCK - 1), "not all of it is there"
    assert blocks.read(stored, BLOCK, 3 * BLOCK - 1) == 1


def test_what_is_not_has_to_be_fetched(stored: int) -> None:
    os.fsync(stored)
    os.posix_fadvise(stored, 0, 0, os.POSIX_FADV_DONTNEED)
    blocks = Blocks()
    if blocks.read_cached(stored, BLOCK, 2 * BLOCK):
        pytest.skip("this file system keeps everything in memory")
    fetch(stored, 2 * BLOCK)
    assert blocks.read_cached(stored, BLOCK, 2 * BLOCK)
    assert blocks.block == b"c" * BLOCK


def test_a_file_system_that_cannot_tell(stored: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    preadv = os.preadv

    def without(descriptor: int, buffers: Sequence[memoryview], position: int, flags: int = 0) -> int:
        asked.append(flags)
        if flags:
            raise OSError(errno.EOPNOTSUPP, "no")
        return preadv(descriptor, buffers, position)

    monkeypatch.setattr(os, "preadv", without)
    blocks = Blocks()
    assert blocks.read_cached(stored, BLOCK, 0)
    assert blocks.read_cached(stored, BLOCK, BLOCK)
    assert asked == [os.RWF_NOWAIT, 0, 0]
    assert blocks.block == b"b" * BLOCK


def test_other_errors_are_errors(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        Blocks().read_cached(descriptor, 10, 0)
    os.close(descriptor)


def test_places_are_used_again() -> None:
    blocks = Blocks()
    first, second = blocks.take(), blocks.take()
    assert first.obj is not second.obj
    blocks.give(first)
    blocks.give(second)
    assert blocks.take() is second, "the last one used is still in the processor's cache"
    assert blocks.take() is first
    for _ in range(SPARE + 1):
        blocks.give(memoryview(b""))
    assert len(blocks._spare) == SPARE


def test_turns_grow_shorter_with_those_who_share_them() -> None:
    blocks = Blocks()
    turns = []
    for blocks.busy in (1, 2, 50, 500):
        turns.append(blocks.turn() * blocks.busy)
        assert blocks.turn() <= TURN
    assert turns == pytest.approx([TURN, 2 * TURN, ROUND, ROUND])
