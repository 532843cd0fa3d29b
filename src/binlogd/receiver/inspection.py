"""What a source must be, and should be, for nothing to be lost: pure checks over what it says of itself.

What replication cannot do without fails; what lets transactions be lost, or failover not work, is a warning. A finding
that is not ``ok`` has a hint with the statement to run, in the words of the source's version: SET PERSIST from 8.0 on,
before it SET GLOBAL and my.cnf; ``source`` from 8.0.26 on, before it ``master``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from binlogd.binlog.gtid import GtidSet
from binlogd.errors import SourceRefused
from binlogd.receiver.cascade import candidates, parse_timelines, plain_name
from binlogd.receiver.inquiry import PERSIST_SINCE, Registered, SourceState, grant, quoted
from binlogd.receiver.plan import SourceFacts, StoreFacts, check_identity
from binlogd.receiver.succession import Refuse, Resume, decide
from binlogd.store.layout import binlog_base, binlog_number
from binlogd.units import format_duration, human_size

OLDEST = (5, 6, 0)  # the first with CRC in events and a FORMAT_DESCRIPTION that says so
GTID_ONLINE_SINCE = (5, 7, 6)  # gtid_mode can be changed without a restart
SHORTEST_TIMEOUT = 5000  # ms; the receiver's longest pause between two attempts to connect
SHORTEST_EXPIRY = 86_400  # seconds; what an outage of a weekend's night takes, and people need to notice
MAX_CLOCK_DIFFERENCE = 2.0  # seconds; from there on lag and "an hour ago" mislead


class Level(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result; ``hint`` is what to do, "" when there is nothing to."""

    level: Level
    subject: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Ours:
    """What the source has to fit. ``server_id`` and ``server_uuid`` are None while they are not made yet.

    ``store`` is where the store ends, None while it is empty, and ``executed`` what it holds and what was purged;
    ``streaming`` says that a receiver of this store dumps from a source now, ``attached`` that it acknowledges too.
    ``room`` is how many bytes retention leaves to all files, None when they are not limited.
    """

    server_id: int | None
    server_uuid: str | None
    semi_sync: bool
    start: str
    store: StoreFacts | None
    executed: GtidSet
    attached: bool
    streaming: bool = False
    room: int | None = None


def inspect(source: SourceState, ours: Ours) -> list[Finding]:
    """Every finding, in the order in which one would put things right."""
    findings = [
        _version(source),
        _tls(source),
        *_compression(source),
        _clock(source),
        *(() if source.is_binlogd else _grants(source, ours)),
        *_identity(source, ours),
        *_replicas(source, ours),
        *_binary_log(source),
    ]
    if not source.is_mariadb:
        findings += _gtids(source)
    findings += _semi_sync(source, ours)
    findings += _durability(source)
    if not source.is_binlogd:  # which keeps files as its store.keep says
        findings += [_expiry(source), *_file_size(source, ours)]
    findings.append(_history(source, ours))
    return findings


def _ok(subject: str, message: str) -> Finding:
    return Finding(Level.OK, subject, message)


def _warn(subject: str, message: str, hint: str) -> Finding:
    return Finding(Level.WARN, subject, message, hint)


def _fail(subject: str, message: str, hint: str) -> Finding:
    return Finding(Level.FAIL, subject, message, hint)


def _on(value: str | None) -> bool:
    return value is not None and value.upper() in ("ON", "1", "YES")


def _version(source: SourceState) -> Finding:
    if source.number < OLDEST:
        text = f"{source.version} is older than 5.6"
        return _fail("source.version", text, "upgrade the source: older binary logs have no checksums and no GTIDs")
    return _ok("source.version", source.version)


def _tls(source: SourceState) -> Finding:
    if source.encrypted:
        return _ok("source.tls", "the connection is encrypted")
    if source.local:
        return _ok("source.tls", "the connection is not encrypted, and does not leave this machine")
    return _warn(
        "source.tls",
        "the connection is not encrypted: whoever can listen on the way reads what is replicated",
        'give the source a certificate (ssl_cert, ssl_key in its my.cnf), then set source.tls = "required" here',
    )


def _compression(source: SourceState) -> Iterator[Finding]:
    if source.compression:
        yield _ok("source.compression", f"the connection is compressed with {source.compression}")


def _clock(source: SourceState) -> Finding:
    if abs(source.ahead) <= MAX_CLOCK_DIFFERENCE:
        return _ok("source.clock", "agrees with ours")
    direction = "ahead of" if source.ahead > 0 else "behind"
    return _warn(
        "source.clock",
        f"is {abs(source.ahead):.0f} s {direction} ours, so that every lag in seconds is off by as much",
        "run NTP on both machines: timedatectl set-ntp true",
    )


def _grants(source: SourceState, ours: Ours) -> Iterator[Finding]:
    given = _global_privileges(source.grants)
    everything = "ALL PRIVILEGES" in given or "ALL" in given
    if everything or given & {"REPLICATION SLAVE", "REPLICATION REPLICA"}:
        yield _ok("source.replication_slave", f"{quoted(source.account)} has REPLICATION SLAVE")
    else:
        yield _fail(
            "source.replication_slave", f"{quoted(source.account)} lacks REPLICATION SLAVE", grant(source.account)
        )
    # MariaDB calls it BINLOG MONITOR since 10.5; SUPER covers it everywhere.
    if everything or given & {"REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"}:
        yield _ok("source.replication_client", f"{quoted(source.account)} has REPLICATION CLIENT")
        return
    lacks = f"{quoted(source.account)} lacks REPLICATION CLIENT"
    statement = grant(source.account, "REPLICATION CLIENT")
    if ours.start == "current" and ours.store is None:
        yield _fail("source.replication_client", f"{lacks}, which source.start = current needs", statement)
    else:
        yield _warn(
            "source.replication_client", f"{lacks}: which binary logs are still there cannot be checked", statement
        )


def _global_privileges(grants: tuple[str, ...]) -> set[str]:
    given: set[str] = set()
    for line in grants:
        match = re.match(r"GRANT (.+?) ON \*\.\* TO ", line, re.IGNORECASE)
        if match:
            given |= {privilege.strip().upper() for privilege in match[1].split(",")}
    return given


def _facts(source: SourceState) -> SourceFacts:
    variables = source.variables
    return SourceFacts(
        server_version=source.version,
        server_id=int(variables.get("server_id", "0")),
        server_uuid=variables.get("server_uuid", "").lower(),
        checksum=variables.get("binlog_checksum", "NONE").upper(),
        gtid_mode=variables.get("gtid_mode", "OFF"),
        executed=_set(source, "gtid_executed"),
        purged=_set(source, "gtid_purged"),
        timelines=parse_timelines(variables.get("binlogd_timelines", "")),
    )


def _set(source: SourceState, name: str) -> GtidSet | None:
    text = None if source.is_mariadb else source.variables.get(name)
    return None if text is None else GtidSet.parse(text)


def _identity(source: SourceState, ours: Ours) -> Iterator[Finding]:
    facts = _facts(source)
    if not facts.server_id:
        yield _fail(
            "source.server_id",
            "is 0, with which a source serves no replicas",
            source.setting("server_id", "a number that no other server of the topology has"),
        )
        return
    try:
        check_identity(facts, server_id=ours.server_id or 0, server_uuid=ours.server_uuid or "-")
    except SourceRefused as same:
        yield _fail("source.server_id", same.message, same.hint)
        return
    mine = f"ours is {ours.server_id}" if ours.server_id is not None else "ours will be made at the first start"
    yield _ok("source.server_id", f"{facts.server_id}; {mine}")


def _replicas(source: SourceState, ours: Ours) -> Iterator[Finding]:
    """Whether another replica of the source is taken for us: the source then ends the dump of one for the other's."""
    subject = "source.replicas"
    if source.replicas is None or ours.server_id is None:
        return
    same = [
        one
        for one in source.replicas
        if one.server_id == ours.server_id and one.server_uuid in (ours.server_uuid, "")  # "": it does not say
    ]
    others = [one for one in source.replicas if one not in same]
    for one in others:
        if one.server_uuid == ours.server_uuid:
            yield _fail(
                subject,
                f"{_named(one)} has our own server_uuid: the source ends the dump of one when the other begins",
                "remove auto.cnf from that server's data folder and restart it, or set another server_uuid here",
            )
            return
        if one.server_id == ours.server_id:
            yield _fail(
                subject,
                f"{_named(one)} has our own server_id: acknowledgements are counted by it, of two as one",
                "SET PERSIST server_id = another number there, STOP REPLICA and START REPLICA; or set another one here",
            )
            return
    if len(same) > ours.streaming:
        yield _warn(
            subject,
            f"{_named(same[0])} has our server_id, and no receiver of this store is it",
            "is a copy of this data_dir in use elsewhere? Stop it, and remove auto.cnf from the copy; when this binlogd"
            " has just ended, the source has not noticed yet: check again in a minute",
        )
        return
    yield _ok(subject, f"{len(others)} other{'s' * (len(others) != 1)} registered, none with our server_id")


def _named(one: Registered) -> str:
    place = f"at {one.host}, " if one.host else ""
    return f"another replica ({place}server_id {one.server_id})"


def _binary_log(source: SourceState) -> Iterator[Finding]:
    variables = source.variables
    if not _on(variables.get("log_bin")):
        yield _fail(
            "source.log_bin",
            "is OFF: the source writes no binary log",
            "remove skip_log_bin or disable_log_bin from its my.cnf, or set log_bin there, and restart it",
        )
        return
    yield _ok("source.log_bin", "is ON")
    form = variables.get("binlog_format")
    if form is not None:
        if form.upper() == "ROW":
            yield _ok("source.binlog_format", "is ROW")
        else:
            yield _warn(
                "source.binlog_format",
                f"is {form}: replicas may compute other values than the source did",
                source.setting("binlog_format", "'ROW'"),
            )
    image = variables.get("binlog_row_image")
    if image is not None:
        yield _row_image(source, image)
    relayed = variables.get("log_replica_updates") or variables.get("log_slave_updates")
    if relayed is not None and not _on(relayed):
        name = "log_replica_updates" if source.word == "source" else "log_slave_updates"
        by_default = source.is_mariadb or source.number < PERSIST_SINCE
        if source.replicates is False:
            yield _ok(f"source.{name}", f"is {relayed}, and the source replicates from nobody")
        elif source.replicates is None and by_default:  # MariaDB wants REPLICA MONITOR for the answer
            yield _ok(f"source.{name}", f"is {relayed}: set it ON in my.cnf before the source becomes a replica itself")
        else:
            yield _warn(
                f"source.{name}",
                f"is {relayed}: what the source applies as a replica is in no file of it, and so not here",
                f"{name} = ON in its my.cnf, and restart it",
            )
    checksum = variables.get("binlog_checksum", "NONE").upper()
    if checksum == "CRC32":
        yield _ok("source.binlog_checksum", "is CRC32")
    else:
        yield _warn(
            "source.binlog_checksum",
            f"is {checksum}: bytes that change on the way or on a disk go unnoticed",
            source.setting("binlog_checksum", "CRC32"),
        )


def _row_image(source: SourceState, image: str) -> Finding:
    if image.upper() in ("FULL", "FULL_NODUP"):  # the second is MariaDB's
        return _ok("source.binlog_row_image", f"is {image.upper()}")
    return _warn(
        "source.binlog_row_image",
        f"is {image.upper()}: rows are logged in part, so that nobody can undo a change from them",
        source.setting("binlog_row_image", "'FULL'"),
    )


def _gtids(source: SourceState) -> Iterator[Finding]:
    mode = source.variables.get("gtid_mode", "OFF").upper()
    consistency = source.variables.get("enforce_gtid_consistency", "OFF").upper()
    if consistency in ("ON", "1"):
        yield _ok("source.enforce_gtid_consistency", "is ON")
    else:
        yield _warn(
            "source.enforce_gtid_consistency",
            f"is {consistency}: gtid_mode needs it ON",
            source.setting("enforce_gtid_consistency", "ON")
            if source.number >= GTID_ONLINE_SINCE
            else "enforce_gtid_consistency = ON in its my.cnf, and restart it",
        )
    if mode == "ON":
        yield _ok("source.gtid_mode", "is ON")
        return
    if source.number < GTID_ONLINE_SINCE:
        hint = "gtid_mode = ON, enforce_gtid_consistency = ON and log_slave_updates in its my.cnf, and restart it"
    else:
        steps = ("OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON")
        ahead = steps[steps.index(mode) + 1 :] if mode in steps else steps
        hint = "; ".join(source.setting("gtid_mode", step) for step in ahead)
        hint += "; before ON wait at every server until SHOW STATUS LIKE 'Ongoing_anonymous_transaction_count' is 0"
    yield _warn("source.gtid_mode", f"is {mode}: a replica cannot change from the source to binlogd by GTID", hint)


def _semi_sync(source: SourceState, ours: Ours) -> Iterator[Finding]:
    word = source.word
    enabled = source.semi_sync("enabled")
    prefix = f"rpl_semi_sync_{word}"
    if not ours.semi_sync:
        yield _warn(
            "source.semi_sync",
            "is not asked for: what the source commits can be lost with it",
            "set source.semi_sync = true in binlogd's configuration",
        )
        return
    if source.is_binlogd:
        yield _ok("source.semi_sync", "a binlogd acknowledges to its own source: no commit waits for this copy")
        return
    if enabled is None:
        yield _warn(
            "source.semi_sync",
            "the source has no semi-sync plugin: what it commits can be lost with it",
            f"INSTALL PLUGIN {prefix} SONAME 'semisync_{word}.so'; {source.setting(f'{prefix}_enabled', 'ON')}",
        )
        return
    if not _on(enabled) and _on(source.variables.get("read_only")):
        yield _ok("source.semi_sync", f"{prefix}_enabled is OFF, as at a standby (read_only): set it ON to promote it")
        return
    if not _on(enabled):
        yield _warn(
            "source.semi_sync",
            f"{prefix}_enabled is OFF: what the source commits can be lost with it",
            source.setting(f"{prefix}_enabled", "ON"),
        )
        return
    yield _ok("source.semi_sync", f"{prefix}_enabled is ON")
    yield from _waiting(source, ours)


def _waiting(source: SourceState, ours: Ours) -> Iterator[Finding]:
    """How the source waits for an acknowledgement."""
    prefix = f"rpl_semi_sync_{source.word}"
    timeout = int(source.semi_sync("timeout") or 10_000)
    text = f"{format_duration(timeout / 1000)}, after which the source commits without an acknowledgement"
    if timeout < SHORTEST_TIMEOUT:
        longer = source.setting(f"{prefix}_timeout", "10000")
        yield _warn("source.semi_sync_timeout", f"{text}: less than binlogd may take to reconnect", longer)
    else:
        yield _ok("source.semi_sync_timeout", text)
    wanted = int(source.semi_sync("wait_for_replica_count") or source.semi_sync("wait_for_slave_count") or 1)
    count = "wait_for_replica_count" if source.word == "source" else "wait_for_slave_count"
    clients = source.status.get(f"{prefix}_clients")
    others = int(clients) - ours.attached if clients is not None else 0
    if wanted > 1:
        yield _warn(
            "source.semi_sync_count",
            f"commits wait for {wanted} acknowledgements, and binlogd gives one",
            f"{source.setting(f'{prefix}_{count}', '1')}, or keep {wanted - 1} more semi-sync replicas running",
        )
    elif others > 0:
        yield _warn(
            "source.semi_sync_count",
            f"{others} other semi-sync replica{'s' * (others > 1)} may acknowledge before binlogd, without syncing",
            "SET PERSIST rpl_semi_sync_replica_enabled = OFF at each of them, then STOP REPLICA; START REPLICA",
        )
    else:
        yield _ok("source.semi_sync_count", "commits wait for 1 acknowledgement")
    point = (source.semi_sync("wait_point") or "").upper()
    if point == "AFTER_COMMIT":
        yield _warn(
            "source.semi_sync_wait_point",
            "is AFTER_COMMIT: others see a transaction before it is safe",
            source.setting(f"{prefix}_wait_point", "'AFTER_SYNC'"),
        )
    elif point:
        yield _ok("source.semi_sync_wait_point", f"is {point}")
    alone = source.semi_sync("wait_no_replica") or source.semi_sync("wait_no_slave")
    if alone is not None and not _on(alone):
        name = "wait_no_replica" if source.word == "source" else "wait_no_slave"
        yield _warn(
            "source.semi_sync_wait_alone",
            f"{prefix}_{name} is OFF: while binlogd reconnects the source commits without waiting",
            source.setting(f"{prefix}_{name}", "ON"),
        )


def _durability(source: SourceState) -> Iterator[Finding]:
    for name, lost in (
        ("sync_binlog", "after a power cut the source's binary log may end before what binlogd has of it"),
        ("innodb_flush_log_at_trx_commit", "after a power cut the source may lack what it has logged"),
    ):
        value = source.variables.get(name)
        if value == "1":
            yield _ok(f"source.{name}", "is 1")
        elif value is not None:
            yield _warn(f"source.{name}", f"is {value}: {lost}", source.setting(name, "1"))


def _expiry(source: SourceState) -> Finding:
    name, seconds = "binlog_expire_logs_seconds", source.variables.get("binlog_expire_logs_seconds")
    expiry, unit = int(seconds or 0), 1
    if not expiry and (days := source.variables.get("expire_logs_days")) is not None:
        expiry, unit = round(float(days) * 86_400), 86_400
        name = "expire_logs_days"
    if not expiry:
        return _ok("source.binlog_expiry", "binary logs are kept until somebody purges them")
    text = f"binary logs are kept for {format_duration(expiry)}"
    if expiry >= SHORTEST_EXPIRY:
        return _ok("source.binlog_expiry", text)
    week = source.setting(name, str(7 * 86_400 // unit))
    return _warn("source.binlog_expiry", f"{text}: when binlogd is down for longer, a gap remains", week)


def _file_size(source: SourceState, ours: Ours) -> Iterator[Finding]:
    """Whether what is kept has room for one binary log at all."""
    size = int(source.variables.get("max_binlog_size", "0"))
    if ours.room is not None and ours.room < size:
        yield _warn(
            "source.max_binlog_size",
            f"is {human_size(size)}, and store.max_size and store.min_free leave {human_size(ours.room)} to all files:"
            " a file goes as soon as the next one begins",
            "raise store.max_size or lower store.min_free, so that several of them are kept; or begin a new file more"
            f" often: {source.setting('max_binlog_size', str(max(ours.room // 8 // 4096 * 4096, 4096)))}",
        )


def _history(source: SourceState, ours: Ours) -> Finding:
    """Whether the source still has what the store needs next."""
    subject = "source.history"
    store, logs = ours.store, source.binary_logs
    if store is None or not store.file:
        return _beginning(source, ours.start)
    facts = _facts(source)
    if source.is_binlogd:
        if not facts.timelines:
            return _warn(subject, "that binlogd has stored nothing yet", "look there with `binlogd status`")
        history = candidates(facts, store)[0]
        facts = replace(facts, history=history)
        logs = logs and tuple((plain_name(name, history.number), size) for name, size in logs)
    step = decide(facts, replace(store, held=ours.executed))
    if isinstance(step, Refuse):
        return _fail(subject, step.error.message, step.error.hint)
    if not isinstance(step, Resume):
        return _ok(subject, f"another source than {store.source_uuid}, which has all that is stored: a new timeline")
    another = "keep this store for its history and begin a new one in another data_dir"
    gap = f"the source has purged what comes after {store.file}:{store.position}"
    if logs is None:
        purged = "" if source.is_mariadb else source.variables.get("gtid_purged", "")
        missing = GtidSet.parse(purged) - ours.executed
        if missing:
            return _fail(subject, f"{gap}: {missing.compact()} is missing", another)
        return _ok(subject, f"nothing that the store lacks is purged; it goes on at {store.file}:{store.position}")
    sizes = dict(logs)
    if store.file in sizes:
        if sizes[store.file] >= store.position:
            behind = sum(size for name, size in logs[list(sizes).index(store.file) :]) - store.position
            return _ok(subject, f"goes on at {store.file}:{store.position}, {behind} bytes behind the source's end")
        return _fail(
            subject,
            f"the store holds {store.file} up to {store.position}, the source only up to {sizes[store.file]}",
            "the source lost transactions in a crash or was restored: compare the store with it before you go on",
        )
    first = logs[0][0] if logs else ""
    if first and binlog_base(first) == binlog_base(store.file) and binlog_number(first) > binlog_number(store.file):
        return _fail(subject, f"{gap}; its oldest file is {first}", another)
    return _fail(
        subject,
        f"the source has no {store.file}, where the store ends; it has {_span(logs)}",
        f"was RESET BINARY LOGS AND GTIDS run there, or another log_bin set? {another}",
    )


def _beginning(source: SourceState, start: str) -> Finding:
    """What an empty store will begin with."""
    logs = source.binary_logs
    if logs is None:
        return _ok("source.history", f"the store is empty and will begin with the source's {start} file")
    if start in ("oldest", "current"):
        name = logs[0 if start == "oldest" else -1][0] if logs else "no file"
        return _ok("source.history", f"the store is empty and will begin with {name}; the source has {_span(logs)}")
    if start in dict(logs):
        return _ok("source.history", f"the store is empty and will begin with {start}")
    return _fail(
        "source.history",
        f"source.start is {start}, and the source has {_span(logs)}",
        'set source.start = "oldest" or the name of one of these files',
    )


def _span(logs: tuple[tuple[str, int], ...]) -> str:
    if not logs:
        return "no binary logs"
    return logs[0][0] if len(logs) == 1 else f"{logs[0][0]} to {logs[-1][0]}"
