"""Power losses at every step of a receiver's life, and of the lives after it; lives.py says what must hold.

What a run found is found again by its seed, which a failure names: ``POWERLOSS_SEED=… pytest -m slow`` for the long
one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from random import Random

import pytest

from testbed.cluster import Cluster
from testbed.mysqld import Server
from tests.binlog.making import CRC32
from tests.e2e.histories import compression, ddl, dml, statements, tagged_gtids, xa
from tests.powerloss.lives import World
from tests.powerloss.source import Source, made_source

BASE = 20_261_124  # seeds of the normal run
AT_ONCE = 50  # files that mysqlbinlog is given at once


@pytest.mark.parametrize("number", range(6))
def test_whatever_a_power_loss_leaves(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """320 images for each of six sources, of eight stores each that begin to be filled."""
    seed = BASE + number
    world = World(tmp_path, made_source(Random(seed)), seed, monkeypatch, rate=2)
    for _ in range(8):
        world.live_and_let_die(40)
    assert world.images == 320
    assert world.kills > 20
    assert world.failures > 1


def test_without_syncs_nothing_is_promised_and_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """durability = "os": what is there is what the source sent, finished files are whole, and the rest comes again."""
    world = World(tmp_path, made_source(Random(BASE), [CRC32]), BASE, monkeypatch, rate=2, durable=False)
    for _ in range(5):
        world.live_and_let_die(40)
    assert world.images == 200


@pytest.mark.slow
def test_many_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tens of thousands of images, others in every run."""
    first = int(os.environ.get("POWERLOSS_SEED") or Random().randrange(10**9))
    images = 0
    for seed in range(first, first + int(os.environ.get("POWERLOSS_SEEDS", "100"))):
        with monkeypatch.context() as patch:
            world = World(tmp_path / str(seed), made_source(Random(seed)), seed, patch, rate=2)
            for _ in range(8):
                world.live_and_let_die(40)
            images += world.images
    print(f"{images} images from seed {first} on")
    assert images == 320 * (seed - first + 1)


def logged(server: Server, checksum: str, folder: Path) -> Source:
    """What the server logs of itself, in files of its own."""
    server.execute(f"SET GLOBAL binlog_checksum = {checksum}", "FLUSH BINARY LOGS")
    first = server.position()[0]
    for history in (ddl, dml, statements, xa, compression, tagged_gtids):
        server.execute("DROP DATABASE IF EXISTS d", "CREATE DATABASE d")
        history(server, folder)
        server.execute("FLUSH BINARY LOGS")
    names = [log.name for log in server.binary_logs() if log.name >= first][:-1]
    assert len(names) > 5
    return Source({name: (server.binlog_dir / name).read_bytes() for name in names})


@pytest.mark.servers
def test_what_a_real_server_logged(tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """150 images with its checksums and without; and mysqlbinlog reads the newest file of each that was recovered."""
    server = cluster.server("source")
    sources = {checksum: logged(server, checksum, tmp_path) for checksum in ("CRC32", "NONE")}
    server.stop()
    tails: set[bytes] = set()
    for checksum, source in sources.items():
        with monkeypatch.context() as patch:
            world = World(tmp_path / checksum, source, BASE, patch, rate=0.5)
            for _ in range(3):
                world.live_and_let_die(50)
        assert world.images == 150
        assert len(world.tails) > 20
        tails.update(world.tails)
    paths = []
    for number, content in enumerate(tails):
        paths.append(tmp_path / f"tail.{number:06}")
        paths[-1].write_bytes(content)
    for at in range(0, len(paths), AT_ONCE):
        command = [*server.program("mysqlbinlog"), "--verify-binlog-checksum", *map(str, paths[at : at + AT_ONCE])]
        read = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert (read.returncode, read.stderr) == (0, b"")
