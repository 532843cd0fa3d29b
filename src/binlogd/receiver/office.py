"""Who decides what lies on the receiver's desk: the configuration, and what was ordered by statement since.

One order is taken at a time, by the thread of the control socket, which is also where a reloaded configuration comes
in. What is ordered is written down before it counts. Requests and answers are plain data, for they come and go over
the socket; the numbers and words of a refusal are those of MySQL, whose client reads them::

    {"order": "change", "source": {"host": …, "port": …}, "auto_position": false}
                                                                 only while nothing is received
    {"order": "start"} {"order": "stop"}
    {"order": "reset", "all": true}                              only while nothing is received

    {"notes": [[number, text], …]}                               done
    {"refused": [number, sqlstate, text]}                        nothing has changed

The files that a change names are read beside that thread, for no longer than FILES_TIME: a mount that hangs would hold
it for as long, and with it every status and every other order, the one to stop among them.

As in MySQL an order to stop is not the end of what was ordered before: after RESET REPLICA ALL nothing is received
until START REPLICA, so that a script that resets, changes and starts finds what it expects.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from binlogd.errors import ConfigError, Refusal, StoreError
from binlogd.logs import get_logger
from binlogd.receiver import override
from binlogd.receiver.link import Wake
from binlogd.receiver.orders import Desk, Follow, Orders
from binlogd.receiver.override import Override, Said
from binlogd.receiver.session import SourceOptions, Tls, tls_context
from binlogd.store.disk import Disk
from binlogd.units import format_duration

ER_WRONG_ARGUMENTS = 1210
ER_SOURCE_FATAL = 1201  # ER_MASTER_INFO: what MySQL says when it cannot keep such an order
ER_STOP_FIRST = 3021  # ER_SLAVE_IO_THREAD_MUST_STOP
STOP_ALL_FIRST = (
    3081,  # ER_SLAVE_CHANNEL_MUST_STOP
    "This operation cannot be performed with running replication threads; run STOP REPLICA FOR CHANNEL '' first",
)
ALREADY_RUNNING = (3083, "Replication thread(s) for channel '' are already runnning.")  # MySQL's spelling
ALREADY_STOPPED = (3084, "Replication thread(s) for channel '' are already stopped.")
ER_UNKNOWN = 1105
FILES_TIME = 2.0  # seconds for a few KiB: who asks for a status waits 5 s
NOTHING_TO_RESET = (
    ER_UNKNOWN,
    "binlogd has no relay log to remove and no position to forget: it goes on where its store ends",
)
BACK_TO_CONFIGURATION = (ER_UNKNOWN, "The configuration's source counts again; START REPLICA receives from it")

log = get_logger(__name__)


def combined(configured: Orders, held: Override | None) -> Orders:
    """What counts. A source that a statement names is the only candidate, and need not be writable."""
    if held is None:
        return configured
    if not held.said:
        return replace(configured, running=held.running)
    source = held.said.applied(configured.sources[0])
    return replace(configured, sources=(source,), follow=Follow.FIRST, running=held.running, by_statement=True)


class Office:
    """Belongs to the control thread once it is made; the desk is for everybody.

    ``fingerprint`` is of the configuration that ``configured`` comes from. StoreDamaged when what was ordered earlier
    cannot be read.
    """

    def __init__(self, *, configured: Orders, fingerprint: str, folder: Path, disk: Disk, wake: Wake) -> None:
        self._configured = configured
        self._fingerprint = fingerprint
        self._folder = folder
        self._disk = disk
        self._override = override.load(folder)
        self._reading: threading.Thread | None = None  # TLS files, by the newest change
        self._keep_or_forget()
        self.desk = Desk(self._orders(), wake)
        if self._override is not None:
            first = self.desk.newest.sources[0]
            log.warning(
                "what was ordered by statement counts, not the configuration",
                source=_peer(first),
                receiving=self._override.running,
                hint="RESET REPLICA ALL and START REPLICA go back to the configuration, and so does editing its"
                " source section",
            )

    # --- what counts ---

    def _keep_or_forget(self) -> None:
        """What was ordered counts as long as the source section is the one of that time."""
        held = self._override
        if held is None or held.fingerprint == self._fingerprint:
            return
        override.remove(self._disk, self._folder)
        self._override = None
        log.warning(
            "the configuration's source section was edited since a statement ordered otherwise: it counts now",
            forgotten=_peer(held.said.applied(self._configured.sources[0])),
            receiving=held.running,
        )

    def _orders(self) -> Orders:
        return combined(self._configured, self._override)

    def reload(self, configured: Orders, fingerprint: str) -> None:
        """The configuration was read again. StoreError when what it overrules cannot be removed: nothing changes."""
        before, held = self.desk.newest, (self._configured, self._fingerprint)
        self._configured, self._fingerprint = configured, fingerprint
        try:
            self._keep_or_forget()
        except StoreError:
            self._configured, self._fingerprint = held
            raise
        orders = self._orders()
        if orders != before:
            log.info("the source section was reloaded", sources=[_peer(source) for source in orders.sources])
            self.desk.leave(orders)

    # --- orders ---

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an order, or refuse it."""
        rules = {"change": self._change, "start": self._start, "stop": self._stop, "reset": self._reset}
        rule = rules.get(str(request.get("order")))
        try:
            if rule is None:
                raise _refused(ER_WRONG_ARGUMENTS, "no such order")
            notes = rule(request)
        except Refusal as refusal:
            return {"refused": [refusal.code, refusal.sqlstate, refusal.message]}
        except StoreError as bad:
            log.error("an order cannot be written down, and nothing has changed", error=bad.message, hint=bad.hint)
            return {"refused": [ER_SOURCE_FATAL, "HY000", f"{bad}; nothing has changed"]}
        return {"notes": [list(note) for note in notes]}

    def _change(self, request: Mapping[str, Any]) -> list[tuple[int, str]]:
        if self.desk.newest.running:
            if request.get("auto_position") is True:
                raise _refused(*STOP_ALL_FIRST)
            raise _refused(
                ER_STOP_FIRST,
                "This operation cannot be performed with a running replica io thread; run STOP REPLICA IO_THREAD FOR"
                " CHANNEL '' first.",
            )
        held = self._override
        try:
            later = Said.decode(request.get("source"))
        except ValueError as bad:
            raise _refused(ER_WRONG_ARGUMENTS, f"Incorrect arguments: {bad}") from None
        said = (held.said if held is not None else Said()).and_then(later)
        source = said.applied(self._configured.sources[0])
        _check(source)
        if source.tls is not Tls.DISABLED:
            self._check_files(source)
        self._hold(said, running=False)
        first = self.desk.newest.sources[0]
        log.info("the source was changed by statement", source=_peer(first), user=first.user, tls=first.tls.value)
        return []

    def _check_files(self, source: SourceOptions) -> None:
        if self._reading is not None and self._reading.is_alive():  # one that hangs is enough
            raise _unread("those of the change before are still being read")
        found: list[ConfigError | None] = []

        def read() -> None:
            try:
                tls_context(source)
                found.append(None)
            except ConfigError as bad:
                found.append(bad)

        self._reading = threading.Thread(target=read, name="tls-files", daemon=True)
        self._reading.start()
        self._reading.join(FILES_TIME)
        if not found:
            raise _unread(f"they could not be read within {FILES_TIME:g} s")
        if found[0] is not None:
            raise _unread(found[0].message)

    def _start(self, _: Mapping[str, Any]) -> list[tuple[int, str]]:
        if self.desk.newest.running:
            return [ALREADY_RUNNING]
        self._hold(self._override.said if self._override is not None else Said(), running=True)
        log.info("receiving is started by statement", source=_peer(self.desk.newest.sources[0]))
        return []

    def _stop(self, _: Mapping[str, Any]) -> list[tuple[int, str]]:
        if not self.desk.newest.running:
            return [ALREADY_STOPPED]
        self._hold(self._override.said if self._override is not None else Said(), running=False)
        log.warning(
            "receiving is stopped by statement: what the source commits from now on is acknowledged by nobody here",
            hint="START REPLICA goes on",
        )
        return []

    def _reset(self, request: Mapping[str, Any]) -> list[tuple[int, str]]:
        if self.desk.newest.running:
            raise _refused(*STOP_ALL_FIRST)
        if request.get("all") is not True:
            return [NOTHING_TO_RESET]
        self._hold(Said(), running=False)
        log.info("what was ordered of the source is forgotten", source=_peer(self.desk.newest.sources[0]))
        return [BACK_TO_CONFIGURATION]

    def _hold(self, said: Said, *, running: bool) -> None:
        """Write it down, then let it count."""
        held = Override(self._fingerprint, said, running) if said or not running else None
        if held is None:
            override.remove(self._disk, self._folder)
        else:
            held.save(self._disk, self._folder)
        self._override = held
        self.desk.leave(self._orders())

    # --- status ---

    def snapshot(self) -> dict[str, Any]:
        """What is ordered now, without secrets."""
        orders, held = self.desk.newest, self._override
        first = orders.sources[0]
        return {
            "running": orders.running,
            "by": "statement" if held is not None else "configuration",
            "follow": orders.follow.value,
            "sources": [{"host": source.host, "port": source.port, "user": source.user} for source in orders.sources],
            "tls": first.tls.value,
            "tls_ca": str(first.tls_ca or ""),
            "tls_cert": str(first.tls_cert or ""),
            "tls_key": str(first.tls_key or ""),
        }


def _peer(source: SourceOptions) -> str:
    return f"{source.host}:{source.port}"


def _refused(code: int, message: str) -> Refusal:
    return Refusal(code, "HY000", message)


def _unread(why: str) -> Refusal:
    return _refused(ER_WRONG_ARGUMENTS, f"Incorrect arguments to SOURCE_SSL_CA, _CERT or _KEY: {why}")


def _check(source: SourceOptions) -> None:
    """What would end the receiver, or have it connect without end, is refused while somebody can put it right."""
    if source.heartbeat >= source.read_timeout:
        raise _refused(
            ER_WRONG_ARGUMENTS,
            "Incorrect arguments to SOURCE_HEARTBEAT_PERIOD: it must be shorter than the configuration's"
            f" source.read_timeout, {format_duration(source.read_timeout)}",
        )
    if (source.tls_cert is None) is not (source.tls_key is None):
        raise _refused(
            ER_WRONG_ARGUMENTS, "Incorrect arguments to SOURCE_SSL_CERT: it goes with SOURCE_SSL_KEY, give both"
        )
