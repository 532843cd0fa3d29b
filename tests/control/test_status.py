"""The status put together: with nothing running, with a part missing, and every alarm."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from binlogd import __version__
from binlogd.binlog.gtid import GtidSet
from binlogd.control.board import Board
from binlogd.control.inventory import Inventory
from binlogd.control.sockets import RECEIVER, SENDER, ControlServer
from binlogd.control.status import CORRUPT_TIMES, LOST_AFTER, alarms, collect, store_status
from binlogd.errors import EventError
from binlogd.receiver.progress import Progress, State
from binlogd.store.layout import DataFolder
from binlogd.store.publication import NOTHING, Publication
from binlogd.store.reader import publication_of, read_store
from tests.binlog.making import TIME, UUID_A
from tests.cli.support import NEWEST, logs, make_store
from tests.store.support import chain, data_of, remove_to
from tests.store.support import make_store as store_of

CONTRACT = {
    "": {"version", "server_id", "server_uuid", "uptime_s", "source", "store", "replicas", "archive", "alarms"},
    "source": {
        "state", "host", "port", "server_uuid", "server_version", "semi_sync", "file", "position", "last_event_time",
        "bytes_received", "transactions_received", "acks_sent", "ack_seconds", "reconnects", "last_error",
    },
    "store": {
        "timeline", "published", "gtid_executed", "gtid_purged", "files", "bytes", "free_bytes", "oldest_time",
    },
    "replica": {
        "id", "user", "host", "port", "report_host", "server_id", "server_uuid", "program", "version", "mode", "file",
        "position", "sent_bytes", "lag_bytes", "lag_seconds", "since", "tls",
    },
}  # fmt: skip
"""The names that interface.md promises."""

REPLICA = dict.fromkeys(CONTRACT["replica"] - {"lag_seconds"}, 0) | {"last_event_time": 0}


def receiver(**source: Any) -> dict[str, Any]:
    """What a receiver says of itself while it streams."""
    progress = Progress()
    progress.streaming()
    return {
        "identity": {"server_id": 2, "server_uuid": UUID_A},
        "pid": 7,
        "uptime_s": 3.5,
        "source": progress.snapshot() | {"semi_sync_wanted": True, "semi_sync": True} | source,
        "publication": Publication(1, NEWEST, 300, GtidSet.parse(f"{UUID_A}:1-5"), GtidSet(), "8.0.36").encode(),
    }


def sender(*replicas: dict[str, Any]) -> dict[str, Any]:
    return {
        "identity": {"server_id": 2, "server_uuid": UUID_A},
        "uptime_s": 9.0,
        "listen": "127.0.0.1:3307",
        "connections": 3,
        "connections_accepted": 5,
        "logins_refused": 1,
        "sent_bytes": 7,
        "max_connections": 256,
        "sent_events": 11,
        "replicas": list(replicas),
    }


def codes(*parts: Any) -> list[tuple[str, str]]:
    return [(alarm.severity, alarm.code) for alarm in alarms(*parts)]


def test_nothing_runs_and_nothing_is_stored(tmp_path: Path) -> None:
    status = collect(DataFolder(tmp_path))
    assert set(status) >= CONTRACT[""]
    assert set(status["store"]) >= CONTRACT["store"]
    assert status["version"] == __version__
    assert (status["source"], status["server"], status["replicas"]) == ({"state": "stopped"}, {"state": "stopped"}, [])
    assert status["store"]["published"] == {"file": "", "position": 0}
    assert (status["store"]["files"], status["store"]["bytes"], status["store"]["timeline"]) == (0, 0, None)
    assert status["store"]["free_bytes"] > 0
    assert [alarm["code"] for alarm in status["alarms"]] == ["receiver_down", "sender_down"]


def test_no_folder_at_all(tmp_path: Path) -> None:
    status = collect(DataFolder(tmp_path / "absent"))
    assert status["store"]["free_bytes"] is None
    assert not (tmp_path / "absent").exists()


def test_nothing_runs_on_a_store(tmp_path: Path) -> None:
    make_store(tmp_path)
    store = collect(DataFolder(tmp_path))["store"]
    assert store["gtid_executed"] == f"{UUID_A}:1-6"
    assert store["gtid_purged"] == ""
    assert store["published"]["file"] == NEWEST
    assert 4 < store["published"]["position"] < len(logs()[NEWEST]), "up to the last whole transaction"
    assert (store["timeline"], store["files"], store["bytes"]) == (1, 2, sum(map(len, logs().values())))
    assert store["oldest_time"] == TIME
    assert store["error"] is None


def test_what_was_removed_and_is_still_there_does_not_count(tmp_path: Path) -> None:
    """Nor for SHOW BINARY LOGS, which goes by the publication."""
    data = data_of(chain(4))
    folder = store_of(tmp_path, data)
    remove_to(folder, 2, unlinked=False)
    size = sum(len(data[f"mysql-bin.{number:06}"]) for number in (3, 4))
    assert len(folder.timelines()[0].binlogs()) == 4
    published = publication_of(read_store(folder)).encode()
    for said in (None, receiver() | {"publication": published}):
        store = store_status(folder, said)
        assert (store["files"], store["bytes"], store["error"]) == (2, size, None)
    assert [file["name"] for file in listed(folder)] == ["mysql-bin.000003", "mysql-bin.000004"]
    before = receiver() | {"publication": published | {"first": [0, ""]}}
    assert store_status(folder, before)["files"] == 4, "it is not published yet"


def listed(folder: DataFolder) -> list[dict[str, Any]]:
    answer = Inventory(folder).listed(collect(folder), 1, 0, 10)
    assert answer["files"] == Inventory(folder).condensed(collect(folder))["files"]
    return list(answer["list"])


def test_a_running_receiver_says_where_the_store_ends(tmp_path: Path) -> None:
    make_store(tmp_path)
    store = store_status(DataFolder(tmp_path), receiver())
    assert store["published"] == {"file": NEWEST, "position": 300}
    assert store["gtid_executed"] == f"{UUID_A}:1-5"


def test_a_damaged_newest_file_hides_nothing_else(tmp_path: Path) -> None:
    (make_store(tmp_path) / NEWEST).write_bytes(b"nothing of the kind")
    status = collect(DataFolder(tmp_path))
    assert NEWEST in status["store"]["error"]
    assert status["store"]["files"] == 2
    assert status["alarms"][0]["code"] == "store_unreadable"
    assert store_status(DataFolder(tmp_path), receiver())["gtid_executed"] == f"{UUID_A}:1-5"


def test_a_damaged_finished_file_is_an_alarm_whoever_tells_of_it(tmp_path: Path) -> None:
    name = "mysql-bin.000001"
    (make_store(tmp_path) / name).write_bytes(b"nothing of the kind")
    status = collect(DataFolder(tmp_path))
    assert status["store"]["error"] is None
    assert status["store"]["published"]["file"] == NEWEST
    told = [{"timeline": 1, "file": name, "message": "bad", "hint": "mend it"}]
    assert store_status(DataFolder(tmp_path), receiver() | {"damaged": told})["damaged"] == told
    assert store_status(DataFolder(tmp_path), receiver())["damaged"] == []
    for alarm in (
        status["alarms"][0],
        asdict(alarms(receiver(), sender() | {"damaged": told})[0]),
        asdict(alarms(receiver(), sender(), None, told)[0]),
    ):
        assert (alarm["severity"], alarm["code"]) == ("critical", "store_damaged")
        assert name in alarm["message"]
        assert alarm["hint"]
    both = alarms(receiver(), sender() | {"damaged": told}, None, told)
    assert [alarm.code for alarm in both] == ["store_damaged"]


def test_damaged_files_of_one_name_are_two_alarms() -> None:
    told = [{"timeline": number, "file": "mysql-bin.000007", "message": "bad", "hint": "mend it"} for number in (1, 2)]
    found = alarms(receiver(), sender() | {"damaged": told[:1]}, None, told, 2)
    assert [alarm.message for alarm in found] == ["0001:mysql-bin.000007: bad", "0002:mysql-bin.000007: bad"]
    assert [alarm.message for alarm in alarms(receiver(), sender(), None, told[:1], 1)] == ["mysql-bin.000007: bad"]


def test_asked_over_the_sockets(tmp_path: Path) -> None:
    make_store(tmp_path)

    async def body() -> dict[str, Any]:
        replica = REPLICA | {"lag_bytes": 10, "last_event_time": 90}
        processes = [
            ControlServer(tmp_path / RECEIVER, lambda: receiver(last_event_time=100), Board(NOTHING)),
            ControlServer(tmp_path / SENDER, lambda: sender(replica)),
        ]
        for process in processes:
            await process.start()
        status = await asyncio.to_thread(collect, DataFolder(tmp_path))
        for process in processes:
            await process.stop()
        return status

    status = asyncio.run(body())
    assert status["alarms"] == []
    assert (status["server_id"], status["server_uuid"], status["uptime_s"]) == (2, UUID_A, 9.0)
    assert set(status["source"]) >= CONTRACT["source"]
    assert set(status["replicas"][0]) >= CONTRACT["replica"]
    assert status["replicas"][0]["lag_seconds"] == 10
    assert status["server"] == {
        "state": "serving",
        "listen": "127.0.0.1:3307",
        "connections": 3,
        "max_connections": 256,
        "sent_events": 11,
        "connections_accepted": 5,
        "logins_refused": 1,
        "sent_bytes": 7,
    }


@pytest.mark.parametrize(
    ("replica", "newest", "lag"),
    [
        ({"lag_bytes": 0, "last_event_time": 10}, 1000, 0),  # it has all there is, however old
        ({"lag_bytes": 5, "last_event_time": 10}, 1000, 990),
        ({"lag_bytes": 5, "last_event_time": 10}, None, 0),  # nothing has come since the receiver started
        ({"lag_bytes": 5, "last_event_time": 0}, 1000, 0),  # nothing was sent yet: only bytes are known
        ({"lag_bytes": 5, "last_event_time": 1001}, 1000, 0),
    ],
)
def test_lag_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replica: dict[str, int], newest: int | None, lag: int
) -> None:
    answers = {RECEIVER: receiver(last_event_time=newest), SENDER: sender(REPLICA | replica)}
    monkeypatch.setattr("binlogd.control.status.ask_status", lambda path: answers[path.name])
    assert collect(DataFolder(tmp_path))["replicas"][0]["lag_seconds"] == lag


def test_alarms_of_the_processes() -> None:
    assert codes(receiver(), sender()) == []
    assert codes(None, sender()) == [("critical", "receiver_down")]
    assert codes(receiver(), None) == [("critical", "sender_down")]
    assert codes(receiver() | {"orders": {"running": True}}, sender()) == []
    assert codes(receiver() | {"orders": {"running": False}}, sender()) == [("warning", "receiving_stopped")]
    assert codes(receiver(), sender(), "mysql-bin.000001: torn") == [("critical", "store_unreadable")]


def test_alarms_about_the_source() -> None:
    def failed(state: State, **more: Any) -> dict[str, Any]:
        progress = Progress()
        progress.failed(state, "what happened", "what to do", alarm="source_gap" if state is State.FAILED else "")
        return receiver(**(progress.snapshot() | more))

    (refused,) = alarms(failed(State.FAILED), sender())
    assert (refused.severity, refused.code) == ("critical", "source_gap")
    assert (refused.message, refused.hint) == ("receiving has stopped: what happened", "what to do")
    assert codes(failed(State.BACKOFF), sender()) == []
    long_ago = time.time() - LOST_AFTER - 1
    (lost,) = alarms(failed(State.BACKOFF, lost_at=long_ago), sender())
    assert (lost.code, lost.since) == ("source_lost", long_ago)
    assert lost.hint == (
        "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=3307, SOURCE_AUTO_POSITION=1;"
        " START REPLICA at each replica that is behind, if the source stays away; server.listen is 127.0.0.1:3307,"
        " which leads a replica on another machine to itself: for those set it to an address that they reach, and"
        " restart binlogd; what to do"
    )
    (lost,) = alarms(failed(State.BACKOFF, lost_at=long_ago), sender() | {"listen": "10.0.0.9:3307"})
    assert lost.hint.endswith(" START REPLICA at each replica that is behind, if the source stays away; what to do")
    (lost,) = alarms(failed(State.BACKOFF, lost_at=long_ago) | {"publication": None}, sender())
    assert lost.hint == "what to do", "nothing is stored"
    (lost, down) = alarms(failed(State.BACKOFF, lost_at=long_ago), None)
    assert (lost.hint, down.code) == ("what to do", "sender_down"), "nobody would answer"
    assert codes(failed(State.CONNECTING, lost_at=long_ago), sender()) == [("critical", "source_lost")]


@pytest.mark.parametrize("state", [State.BACKOFF, State.CONNECTING, State.STREAMING])
def test_alarms_about_a_corrupt_stream(state: State) -> None:
    progress = Progress(state=state, file=NEWEST, position=300)
    for _ in range(CORRUPT_TIMES):
        assert codes(receiver(**progress.snapshot() | {"semi_sync": True}), sender()) == []
        progress.suspect(EventError("fails its CRC-32"))
        progress.last_error = "fails its CRC-32"
    (corrupt,) = alarms(receiver(**progress.snapshot() | {"semi_sync": True}), sender())
    assert (corrupt.severity, corrupt.code) == ("critical", "corrupt_stream")
    assert f"{NEWEST} at 300 was corrupt" in corrupt.message
    assert "(fails its CRC-32)" in corrupt.message
    assert f"mysqlbinlog --verify-binlog-checksum {NEWEST}" in corrupt.hint
    progress.lost_at = 0.0
    assert codes(receiver(**progress.snapshot() | {"semi_sync": True}), sender()) == []


def test_alarms_about_the_disk() -> None:
    progress = Progress()
    progress.failed(State.FAILED, "cannot write F: No space left on device", "make room", alarm="disk_full")
    (full,) = alarms(receiver(**progress.snapshot()), sender())
    assert (full.severity, full.code, full.since) == ("critical", "disk_full", progress.lost_at)
    assert full.message == "receiving has stopped: cannot write F: No space left on device"
    assert full.hint == "make room"
    progress.state = State.CONNECTING  # it can be used again, and has yet to show it
    assert codes(receiver(**progress.snapshot()), sender()) == [("critical", "disk_full")]
    progress.streaming()
    assert codes(receiver(**progress.snapshot() | {"semi_sync": True}), sender()) == []
    progress.missing = "published were …"
    assert ("critical", "store_missing") in codes(receiver(**progress.snapshot()), sender())


def test_a_receiver_that_does_not_know_the_store_yet(tmp_path: Path) -> None:
    """Its disk was full when it started: what is there is read."""
    make_store(tmp_path)
    store = store_status(DataFolder(tmp_path), receiver() | {"publication": None})
    assert store["published"]["file"] == NEWEST
    assert store["error"] is None


def test_alarms_about_semi_sync() -> None:
    assert codes(receiver(semi_sync=False), sender()) == [("warning", "no_semi_sync")]
    assert codes(receiver(semi_sync=False, semi_sync_wanted=False), sender()) == []
    assert codes(receiver(semi_sync=False, state="connecting", lost_at=None), sender()) == []
    (server,) = alarms(receiver(semi_sync=False), sender())
    assert "INSTALL PLUGIN" in server.hint
    (cascade,) = alarms(receiver(semi_sync=False, cascade=True), sender())
    assert cascade.code == "no_semi_sync"
    assert "no commit waits for this copy" in cascade.message
    assert "INSTALL PLUGIN" not in cascade.hint
