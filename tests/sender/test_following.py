"""A listener beside a receiver that it cannot ask: another process holds the store's lock."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from binlogd.store.layout import DataFolder
from binlogd.store.publication import Publication
from binlogd.store.reader import publication_of, read_store
from tests.binlog.making import Log
from tests.cli.support import NEWEST
from tests.sender.listening import Listening
from tests.store.test_lock import holder


class Receiver:
    """What one says that is asked: ``says`` is told once, and then it breaks off. ``asked`` counts."""

    def __init__(self, *says: Publication | None) -> None:
        self.says = says
        self.asked = 0

    async def follow(self) -> AsyncGenerator[Publication | None, None]:
        self.asked += 1
        for publication in self.says:
            yield publication


@contextmanager
def lock_held(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """By a process, until it is killed or the block ends."""
    with holder(DataFolder(folder).lock) as process:
        try:
            yield process
        finally:
            process.kill()


def grown(folder: Path) -> int:
    """One transaction more is in the newest file; where it ends."""
    path = DataFolder(folder).timelines()[-1].path / NEWEST
    data = path.read_bytes()
    more = Log(base=len(data))
    more.transaction(100)
    path.write_bytes(data + more.data)
    return len(data) + len(more.data)


def position(listening: Listening) -> int:
    return listening.ask(lambda: listening.service.catalog.publication.position)


def asked_often(listening: Listening, receiver: Receiver) -> None:
    """It has looked again, and more than once since."""
    before = receiver.asked
    listening.until(lambda: receiver.asked > before + 4)


def test_what_a_receiver_writes_that_does_not_answer_is_not_shown(tmp_path: Path) -> None:
    receiver = Receiver()
    with Listening(tmp_path, follow=receiver.follow) as listening:
        listening.until(lambda: listening.service.catalog.logs)
        shown = position(listening)
        with lock_held(tmp_path) as process:
            end = grown(tmp_path)
            asked_often(listening, receiver)
            assert position(listening) == shown
            with listening.connect() as client:
                client.ping()
            process.kill()
            listening.until(lambda: listening.service.catalog.publication.position == end)


def test_a_receiver_that_begins_at_the_same_time_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It recovers, and may be cutting; it is said once."""
    caplog.set_level("INFO")
    receiver = Receiver()
    folder = DataFolder(tmp_path)
    with lock_held(tmp_path), Listening(tmp_path, follow=receiver.follow) as listening:
        asked_often(listening, receiver)
        assert listening.ask(lambda: listening.service.catalog.logs) == []
        assert len([each for each in caplog.records if "does not say what is published" in each.getMessage()]) == 1
        receiver.says = (publication_of(read_store(folder)),)
        with listening.connect() as client:
            client.ping()
        assert position(listening) == receiver.says[0].position


def test_a_receiver_that_knows_nothing_itself_is_not_waited_for(tmp_path: Path) -> None:
    """Its disk is full, say: it has not even recovered. What is there is served."""
    receiver = Receiver(None)
    with lock_held(tmp_path), Listening(tmp_path, follow=receiver.follow) as listening:
        with listening.connect() as client:
            client.ping()
        assert position(listening) == publication_of(read_store(DataFolder(tmp_path))).position


def test_one_that_has_begun_meanwhile_is_followed(tmp_path: Path) -> None:
    """It knew nothing before the files were read, and something after: they are not shown."""
    folder = DataFolder(tmp_path)

    class Begins(Receiver):
        async def follow(self) -> AsyncGenerator[Publication | None, None]:
            self.asked += 1  # 1: to follow it, 2: before the files are read, 3: when they were read
            if self.asked < 3:
                yield None
            elif self.asked == 3:
                yield first
            # else it cannot be asked

    with lock_held(tmp_path):
        receiver = Begins()
        listening = Listening(tmp_path, follow=receiver.follow)
        first = publication_of(read_store(folder))
        with listening:
            asked_often(listening, receiver)
            assert listening.ask(lambda: listening.service.catalog.logs) == []
