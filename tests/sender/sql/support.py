"""A listener's knowledge with known values, and shorthands for running statements against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from binlogd.errors import Refusal
from binlogd.sender.columns import definition
from binlogd.sender.sql import (
    AttachedReplica,
    BinaryLog,
    BinaryLogStatus,
    ColumnSpec,
    Errand,
    EventListing,
    KillTarget,
    Ok,
    Outcome,
    Process,
    ResultSet,
    Role,
    ServerFacts,
    SessionState,
    Wait,
    advertised_version,
    execute,
)
from binlogd.sender.sql.refusals import no_such_thread
from binlogd.wire.results import Column

LOCAL_COLLATION = 255  # what a connection has by SET NAMES utf8mb4

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
OTHER_UUID = "aaaaaaaa-71ca-11e1-9e33-c80aa9429562"


def announced(specs: Iterable[ColumnSpec]) -> list[Column]:
    """The column definitions that a client gets."""
    return [definition(spec, LOCAL_COLLATION) for spec in specs]


def definitions(cursor: Any) -> list[Column]:
    """The column definitions that PyMySQL got with the last answer."""
    return [
        Column(
            name=field.name,
            type=field.type_code,
            charset=field.charsetnr,
            length=field.length,
            flags=field.flags,
            decimals=field.scale,
            schema=field.db.decode(),
            table=field.table_name,
            org_table=field.org_table,
            org_name=field.org_name,
        )
        for field in cursor._result.fields
    ]


class Knowledge:
    """A Backend over plain lists, which records what it was told to kill."""

    def __init__(self) -> None:
        self.logs = [BinaryLog("mysql-bin.000001", 1234), BinaryLog("mysql-bin.000002", 5 * 2**30)]
        self.end: BinaryLogStatus | None = BinaryLogStatus("mysql-bin.000002", 5 * 2**30, f"{UUID}:1-5")
        self.attached = [AttachedReplica(11, "replica1", 3306, 7, OTHER_UUID)]
        self.processes = [
            Process(7, "repl", "10.0.0.1:4000", None, "Query", 0, "starting", "x" * 300),
            Process(8, "repl", "10.0.0.2:4000", None, "Binlog Dump GTID", 60, None, None),
            Process(9, "boss", "10.0.0.3:4000", None, "Sleep", 5, None, None),
        ]
        self.killed: list[tuple[int, KillTarget]] = []

    def binary_logs(self) -> Iterable[BinaryLog]:
        return self.logs

    def binary_log_status(self) -> BinaryLogStatus | None:
        return self.end

    def replicas(self) -> Iterable[AttachedReplica]:
        return self.attached

    def processlist(self) -> Iterable[Process]:
        return self.processes

    def status(self) -> Mapping[str, str]:
        return {"Uptime": "77", "Threads_connected": "3"}

    def kill(self, connection_id: int, target: KillTarget) -> None:
        if connection_id not in {process.id for process in self.processes}:
            raise no_such_thread(connection_id)
        self.killed.append((connection_id, target))


def some_facts(**changed: Any) -> ServerFacts:
    values: dict[str, Any] = {
        "version": advertised_version("9.7.4"),
        "server_id": 3306202,
        "server_uuid": UUID,
        "hostname": "keeper",
        "port": 3307,
        "gtid_executed": lambda: f"{UUID}:1-5",
        "gtid_purged": lambda: "",
        "binlogd_timelines": lambda: f"0001-{UUID},0002-{OTHER_UUID}",
        "now": lambda: 1_800_000_000.75,
    }
    return ServerFacts(**values | changed)


@dataclass
class Client:
    """A connection to a listener that exists in memory only."""

    role: Role = Role.REPLICA
    facts: ServerFacts = field(default_factory=some_facts)
    session: SessionState = field(default_factory=lambda: SessionState(7, "repl", "10.0.0.1"))
    backend: Knowledge = field(default_factory=Knowledge)

    questions: list[dict[str, Any]] = field(default_factory=list)  # to the receiver
    answer: dict[str, Any] | None = None  # of the receiver

    def outcome(self, statement: str | bytes) -> Outcome:
        return execute(statement, session=self.session, facts=self.facts, backend=self.backend, role=self.role)

    def run(self, statement: str | bytes) -> Ok | ResultSet:
        outcome = self.answered(statement)
        assert not isinstance(outcome, EventListing | Wait)
        return outcome

    def answered(self, statement: str | bytes) -> Ok | ResultSet | EventListing | Wait:
        """What is there to say once the receiver has been asked; what takes longer is left as it is."""
        outcome = self.outcome(statement)
        if not isinstance(outcome, Errand):
            return outcome
        self.questions.append(dict(outcome.question))
        return outcome.finish(self.answer)

    def ok(self, statement: str) -> None:
        assert self.run(statement) == Ok()

    def result(self, statement: str | bytes) -> ResultSet:
        result = self.run(statement)
        assert isinstance(result, ResultSet)
        return result

    def rows(self, statement: str | bytes) -> list[tuple[str | None, ...]]:
        return list(self.result(statement).text_rows())

    def columns(self, statement: str) -> list[str]:
        return [column.name for column in self.result(statement).columns]

    def row(self, statement: str) -> tuple[str | None, ...]:
        (row,) = self.rows(statement)
        return row

    def value(self, statement: str) -> str | None:
        (value,) = self.row(statement)
        return value

    def refusal(self, statement: str | bytes) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.run(statement)
        return caught.value

    def code(self, statement: str | bytes) -> int:
        return self.refusal(statement).code
