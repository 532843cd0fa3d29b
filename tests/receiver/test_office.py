"""Orders by statement, over a restart and beside a configuration that is edited; what MySQL says to each."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogd.errors import StoreDamaged, StoreUnreadable
from binlogd.receiver import office as office_module
from binlogd.receiver.link import Interrupted, Wake
from binlogd.receiver.office import ALREADY_RUNNING, ALREADY_STOPPED, NOTHING_TO_RESET, Office
from binlogd.receiver.orders import Follow, Orders
from binlogd.receiver.override import FILE, Override
from binlogd.receiver.session import Secret, SourceOptions
from binlogd.store.disk import Disk

DB1 = SourceOptions("db1", 3306, "repl", Secret("configured"))
DB2 = replace(DB1, host="db2")
CONFIGURED = Orders((DB1, DB2), follow=Follow.WRITABLE, keep_both=True)


def office(folder: Path, configured: Orders = CONFIGURED, fingerprint: str = "one", **more: Any) -> Office:
    given: dict[str, Any] = {"disk": Disk(), "wake": Wake()} | more
    return Office(configured=configured, fingerprint=fingerprint, folder=folder, **given)


def done(one: Office, order: str, **more: Any) -> list[tuple[int, str]]:
    answer = json.loads(json.dumps(one.answer({"ask": "order", "order": order, **more})))
    assert set(answer) == {"notes"}, answer
    return [(code, text) for code, text in answer["notes"]]


def refused(one: Office, order: str, **more: Any) -> tuple[int, str]:
    before = one.desk.newest
    answer = json.loads(json.dumps(one.answer({"ask": "order", "order": order, **more})))
    assert set(answer) == {"refused"}, answer
    assert one.desk.newest == before
    return answer["refused"][0], answer["refused"][2]


def changed(folder: Path, **source: Any) -> Office:
    one = office(folder)
    done(one, "stop")
    assert done(one, "change", source=source) == []
    return one


def test_the_configuration_counts_while_nothing_else_is_ordered(tmp_path: Path) -> None:
    one = office(tmp_path)
    assert one.desk.newest is CONFIGURED
    assert done(one, "start") == [ALREADY_RUNNING]
    assert list(tmp_path.iterdir()) == []
    assert one.snapshot()["by"] == "configuration"


def test_stop_holds_over_a_restart_and_start_forgets_it(tmp_path: Path) -> None:
    wake = Wake()
    one = office(tmp_path, wake=wake)
    assert done(one, "stop") == []
    with pytest.raises(Interrupted):
        wake.check()
    assert one.desk.newest == replace(CONFIGURED, running=False)
    assert done(one, "stop") == [ALREADY_STOPPED]
    again = office(tmp_path)
    assert again.desk.newest == replace(CONFIGURED, running=False)
    assert done(again, "start") == []
    assert again.desk.newest == CONFIGURED
    assert not (tmp_path / FILE).exists()


def test_another_source_holds_over_a_restart(tmp_path: Path) -> None:
    one = changed(tmp_path, host="db9", password="hush")
    source = replace(DB1, host="db9", password=Secret("hush"))
    assert one.desk.newest == Orders((source,), keep_both=True, running=False, by_statement=True)
    assert done(one, "change", source={"port": 3310}) == [], "what was said before goes on to count"
    assert done(one, "start") == []
    wanted = Orders((replace(source, port=3310),), keep_both=True, by_statement=True)
    assert one.desk.newest == wanted
    assert office(tmp_path).desk.newest == wanted
    shown = json.dumps(one.snapshot())
    assert "hush" not in shown
    assert "configured" not in shown.replace("configuration", "")
    assert one.snapshot()["by"] == "statement"


def test_only_while_nothing_is_received(tmp_path: Path) -> None:
    """As MySQL 9.7 does, with its numbers and words."""
    one = office(tmp_path)
    code, text = refused(one, "change", source={"host": "db9"})
    assert (code, "run STOP REPLICA IO_THREAD FOR CHANNEL '' first." in text) == (3021, True)
    code, text = refused(one, "change", source={"host": "db9"}, auto_position=True)
    assert (code, "run STOP REPLICA FOR CHANNEL '' first" in text) == (3081, True)
    for everything in (False, True):
        code, text = refused(one, "reset", all=everything)
        assert (code, "run STOP REPLICA FOR CHANNEL '' first" in text) == (3081, True)
    assert list(tmp_path.iterdir()) == []


def test_reset(tmp_path: Path) -> None:
    one = changed(tmp_path, host="db9")
    assert done(one, "reset", all=False) == [NOTHING_TO_RESET]
    assert one.desk.newest.sources[0].host == "db9"
    ((code, _),) = done(one, "reset", all=True)
    assert code == 1105
    assert one.desk.newest == replace(CONFIGURED, running=False), "until START REPLICA, as in MySQL"
    assert done(one, "change", source={"host": "db8"}) == [], "what a script of a failover does next"
    done(one, "reset", all=True)
    done(one, "start")
    assert one.desk.newest == CONFIGURED
    assert list(tmp_path.iterdir()) == []


def test_an_edited_source_section_is_the_newer_word(tmp_path: Path) -> None:
    done(changed(tmp_path, host="db9"), "start")
    assert office(tmp_path, fingerprint="one").desk.newest.sources[0].host == "db9"
    again = office(tmp_path, fingerprint="two")
    assert again.desk.newest == CONFIGURED
    assert not (tmp_path / FILE).exists()


def test_a_reload(tmp_path: Path) -> None:
    wake = Wake()
    one = office(tmp_path, wake=wake)
    one.reload(Orders((DB1, DB2), follow=Follow.WRITABLE, keep_both=True), "one")
    wake.check()
    one.reload(Orders((DB2,)), "two")
    with pytest.raises(Interrupted):
        wake.check()
    assert one.desk.take() == Orders((DB2,))

    done(one, "stop")
    done(one, "change", source={"host": "db9"})
    rotated = replace(DB2, password=Secret("rotated"))
    one.reload(Orders((rotated,)), "two")
    assert one.desk.newest == Orders((replace(rotated, host="db9"),), running=False, by_statement=True)
    one.reload(CONFIGURED, "three")
    assert one.desk.newest == CONFIGURED
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ({"heartbeat": 30.0}, "source.read_timeout, 30s"),
        ({"ssl_cert": "/c.pem"}, "give both"),
        ({"ssl": True, "ssl_ca": "/nowhere.pem"}, "cannot load the TLS files"),
        ({"ssl": True, "ssl_ca": "/dev/null"}, "no regular file"),
        ({"port": "3306"}, "port is not what it may be"),
        ({"hosts": "db9"}, "hosts is not what it may be"),
        (None, "is no table"),
    ],
    ids=str,
)
def test_what_would_never_connect_is_refused(tmp_path: Path, source: Any, what: str) -> None:
    one = office(tmp_path)
    done(one, "stop")
    code, text = refused(one, "change", source=source)
    assert (code, what in text) == (1210, True), text


def test_no_such_order(tmp_path: Path) -> None:
    assert refused(office(tmp_path), "dance")[0] == 1210


class Full(Disk):
    full = True

    def replace(self, path: Path, content: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().replace(path, content)

    def remove(self, path: Path) -> None:
        if self.full:
            raise OSError(30, "Read-only file system")
        super().remove(path)


def test_what_cannot_be_written_down_does_not_count(tmp_path: Path) -> None:
    one = office(tmp_path, disk=Full())
    code, text = refused(one, "stop")
    assert code == 1201
    assert "No space left on device" in text
    assert text.endswith("nothing has changed")
    Override("one", running=False).save(Disk(), tmp_path)
    disk = Full()
    one = office(tmp_path, disk=disk)
    assert refused(one, "start")[0] == 1201
    before = one.desk.newest
    with pytest.raises(StoreUnreadable):
        one.reload(Orders((DB2,)), "two")
    assert one.desk.newest == before
    disk.full = False
    done(one, "change", source={"port": 3310})
    assert one.desk.newest.sources == (replace(DB1, port=3310),), "the configuration is the one before"
    assert office(tmp_path).desk.newest == one.desk.newest


def test_a_damaged_file_is_no_order(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(StoreDamaged):
        office(tmp_path)


def test_a_tls_file_on_a_mount_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither that order, nor the next one; once it answers, the file is read again."""
    there = threading.Event()
    looks = []

    def hangs(path: Path, **_: Any) -> os.stat_result:
        looks.append(path)
        there.wait(20)
        raise FileNotFoundError(2, "No such file or directory", str(path))

    one = office(tmp_path)
    done(one, "stop")
    monkeypatch.setattr(Path, "stat", hangs)
    monkeypatch.setattr(office_module, "FILES_TIME", 0.01)
    code, text = refused(one, "change", source={"ssl": True, "ssl_ca": "/mnt/ca.pem"})
    assert (code, "could not be read within" in text) == (1210, True)
    assert one.snapshot()["running"] is False
    code, text = refused(one, "change", source={"ssl": True, "ssl_ca": "/mnt/ca.pem"})
    assert (code, "still being read" in text) == (1210, True)
    assert len(looks) == 1
    there.set()
    for thread in threading.enumerate():
        if thread.name == "tls-files":
            thread.join(10)
    monkeypatch.setattr(office_module, "FILES_TIME", 10.0)
    assert "No such file" in refused(one, "change", source={"ssl": True, "ssl_ca": "/mnt/ca.pem"})[1]
