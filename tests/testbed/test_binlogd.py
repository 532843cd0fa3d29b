"""The comparison on which "byte-identical" rests can fail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from binlogd.control.sockets import ask_status
from testbed.binlogd import COMPARE_BLOCK, IN_USE_AT, Binlogd, first_difference
from testbed.cluster import Cluster

LONG = bytes(range(256)) * (COMPARE_BLOCK // 256 + 1)


@pytest.mark.parametrize(
    ("one", "other", "limit", "difference"),
    [
        (b"", b"", None, None),
        (b"abc", b"abc", None, None),
        (b"abc", b"abd", None, 2),
        (b"abc", b"abd", 2, None),
        (b"ab", b"abc", None, 2),
        (b"abc", b"ab", None, 2),
        (b"abc", b"ab", 2, None),
        (b"ab", b"ab", 3, 2),
        (LONG, LONG, None, None),
        (LONG, LONG[:-1], None, len(LONG) - 1),
        (LONG, LONG[:-1] + b"x", None, len(LONG) - 1),
        (LONG, LONG[:-1] + b"x", len(LONG) - 1, None),
    ],
)
def test_the_first_difference(
    tmp_path: Path, one: bytes, other: bytes, limit: int | None, difference: int | None
) -> None:
    (tmp_path / "one").write_bytes(one)
    (tmp_path / "other").write_bytes(other)

    assert first_difference(tmp_path / "one", tmp_path / "other", limit) == difference


def test_only_the_flag_in_use_is_left_out_of_account(tmp_path: Path) -> None:
    closed = bytearray(40)
    opened = bytearray(closed)
    opened[IN_USE_AT] |= 1
    (tmp_path / "closed").write_bytes(closed)
    (tmp_path / "opened").write_bytes(opened)
    assert first_difference(tmp_path / "closed", tmp_path / "opened") == IN_USE_AT
    assert first_difference(tmp_path / "closed", tmp_path / "opened", in_use=True) is None

    opened[IN_USE_AT] |= 2
    (tmp_path / "opened").write_bytes(opened)
    assert first_difference(tmp_path / "closed", tmp_path / "opened", in_use=True) == IN_USE_AT


@pytest.mark.servers
def test_what_is_waited_for_is_shown_by_the_sender_too(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has waited asks the listener next, and the sender hears of a publication after everybody else."""
    monkeypatch.setattr(ask_status, "__kwdefaults__", {"timeout": 0.1})
    source = cluster.server()
    one = Binlogd(tmp_path / "b", source).start()
    try:
        for wait in (lambda: one.wait_for(source), lambda: one.wait_for_gtid(source.gtid_executed)):
            with ThreadPoolExecutor(1) as pool:
                with one.paused("serve"):
                    source.execute("CREATE DATABASE IF NOT EXISTS d")
                    file, position = source.position()
                    at = {"file": file, "position": position}
                    one.wait_until(lambda at=at: one.status()["store"]["published"] == at, "it in the store")  # type: ignore[misc]
                    waiting = pool.submit(wait)
                    with pytest.raises(TimeoutError):
                        waiting.result(1)  # some looks, each at a process that does not answer
                waiting.result(60)
            assert one.query("SELECT @@gtid_executed") == [(source.gtid_executed,)]
        one.kill()
        one.start("receive")
        one.wait_for(source)
    finally:
        one.close()
