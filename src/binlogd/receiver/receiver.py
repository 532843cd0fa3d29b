"""Connect, ask, stream; and when that ends, again: the life of a receiver.

What ends a connection is one of three kinds (errors.py): what may pass (``retriable``: the network, a restart of the
source, corrupt bytes) is tried again after a pause that doubles up to BACKOFF_LONGEST, with jitter so that a
thousand servers do not come back in step; what rules replication out until somebody acts ends the receiver; and so
does trouble with our own store. Before every new connection the store is cut back to its last publication: the
position that is asked for is durable, and nothing is stored twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from binlogd.errors import BinlogdError, ConfigError, PeerError, ServerError, SourceRefused, Unreachable
from binlogd.logs import get_logger
from binlogd.receiver.inquiry import grant, quoted
from binlogd.receiver.link import Stopped, Wake
from binlogd.receiver.plan import StoreFacts, plan_start, timeline_name
from binlogd.receiver.progress import Progress, State
from binlogd.receiver.session import Session, SourceOptions
from binlogd.receiver.stream import Stream
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder, Identity, Timeline
from binlogd.store.publication import Publication
from binlogd.store.recovery import Recovered
from binlogd.store.tail import Tail

BACKOFF_SHORTEST = 0.1  # seconds: a source that restarts is back at once
BACKOFF_LONGEST = 2.0  # a source that is back commits nothing before we are, up to its timeout of 10 s by default

ACCESS_DENIED = 1045  # user or password; from a statement: a privilege

FATAL_CODES = frozenset({
    1044,  # access denied to database
    ACCESS_DENIED,
    1130,  # host not allowed
    1142,  # command denied
    1227,  # a privilege is missing
    1236,  # the dump is impossible: purged, beyond the end, corrupt at the source, our server_id taken
    1251,  # authentication protocol
    1820,  # password expired
    1862,
    3118,  # account locked
})  # fmt: skip

log = get_logger(__name__)


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next attempt, seconds."""

    pause: float = BACKOFF_SHORTEST

    def next(self) -> float:
        """The pause now due; the following one is twice as long."""
        now = self.pause
        self.pause = min(self.pause * 2, BACKOFF_LONGEST)
        return now * random.uniform(0.5, 1.0)  # noqa: S311 - spreads attempts; no secret

    def reset(self) -> None:
        """Things went well for a while."""
        self.pause = BACKOFF_SHORTEST


class Receiver:
    """Owns the store's newest timeline from ``run`` until it returns or raises."""

    def __init__(
        self,
        *,
        options: SourceOptions,
        folder: DataFolder,
        disk: Disk,
        identity: Identity,
        recovered: Recovered,
        publish: Callable[[Publication], None],
        progress: Progress,
        wake: Wake,
        durable: bool = True,
        refusal_pause: float | None = None,
    ) -> None:
        self._refusal_pause = refusal_pause  # seconds; None: a refusal ends the receiver
        self._options = options
        self._folder = folder
        self._disk = disk
        self._identity = identity
        self._publication = recovered.publication
        self._publish = publish
        self._progress = progress
        self._wake = wake
        self._durable = durable
        self._tail: Tail | None = None
        self._reached = recovered.tail is not None  # the source was reached, now or in an earlier life
        if recovered.timeline is not None:
            self._tail = self._make_tail(recovered.timeline, recovered)

    def run(self) -> None:
        """Receive until woken. Raises what people must act on: SourceRefused, StoreError, ConfigError."""
        backoff = Backoff()
        try:
            while True:
                try:
                    self._once()
                except (PeerError, SourceRefused) as trouble:
                    lasting = self._lasting(trouble)
                    if lasting is not None:
                        self._wait_out(lasting)
                        continue
                    if not self._progress.lost_at:
                        backoff.reset()  # something sound had come
                    pause = backoff.next()
                    self._progress.suspect(trouble)
                    self._progress.failed(State.BACKOFF, trouble.message, trouble.hint)
                    self._progress.reconnects += 1
                    log.warning("source lost", error=trouble.message, hint=trouble.hint, retry_in=f"{pause:.1f}s")
                    self._wake.sleep(pause)
        except Stopped:
            self._progress.state = State.STOPPED
        except BinlogdError as bad:
            self._progress.failed(State.FAILED, bad.message, bad.hint)
            raise
        finally:
            if self._tail is not None:
                self._tail.close()

    def _wait_out(self, lasting: BinlogdError) -> None:
        """Ask again later while there is a store to serve; else this is the end."""
        if self._refusal_pause is None or not self._publication_file():
            raise lasting
        self._progress.failed(State.FAILED, lasting.message, lasting.hint)
        log.error("source refused", error=lasting.message, hint=lasting.hint, retry_in=f"{self._refusal_pause:g}s")
        self._wake.sleep(self._refusal_pause)

    def _publication_file(self) -> str:
        return self._tail.publication.file if self._tail is not None else ""

    def _once(self) -> None:
        """One connection, from log-in to its end."""
        options, progress = self._options, self._progress
        progress.state = State.CONNECTING
        progress.host, progress.port = options.host, options.port
        if self._tail is not None:
            self._tail.rewind()
        session = Session(options, self._identity, self._wake)
        try:
            session.connect()
            try:
                facts = session.prepare()
            except ServerError as refused:
                if refused.code == ACCESS_DENIED:
                    # Logged in we are: this is how COM_REGISTER_SLAVE says that a privilege is missing.
                    account = str(session.ask("SELECT CURRENT_USER()").rows[0][0])
                    raise SourceRefused(
                        f"the source refused: its user {quoted(account)} lacks REPLICATION SLAVE",
                        hint=f"run at the source: {grant(account)}",
                        code=refused.code,
                    ) from refused
                raise
            self._reached = True
            progress.server_uuid = facts.server_uuid
            progress.server_version = facts.server_version
            tail = self._tail
            if tail is not None and not tail.name and tail.timeline.source_uuid != timeline_name(facts):
                tail = self._tail = None  # nothing of that source was ever stored: it binds us to nothing
            store = StoreFacts(tail.timeline.source_uuid, tail.name, self._publication_end(tail)) if tail else None
            current = session.current_file() if options.start == "current" and not (tail and tail.name) else ""
            start = plan_start(facts, store, start=options.start, current=current)
            if tail is None:
                timeline = self._folder.new_timeline(self._disk, timeline_name(facts))
                tail = self._tail = self._make_tail(timeline, None)
            session.settings().save(self._disk, tail.timeline.path)
            sequence, received = session.dump(start)
            progress.semi_sync = session.semi_sync
            progress.tls = session.encrypted
            progress.streaming()
            log.info(
                "receiving",
                source=f"{options.host}:{options.port}",
                version=facts.server_version,
                file=start.file or "(the oldest)",
                position=start.position,
                semi_sync=session.semi_sync,
                tls=session.encrypted,
            )
            if options.semi_sync and not session.semi_sync:
                log.warning(
                    "the source does not do semi-sync: a transaction can be lost with it", hint=_how_to(session)
                )
            Stream(
                link=session.link,
                tail=tail,
                start=start,
                announced=4 if facts.checksum == "CRC32" else 0,
                publish=self._publish,
                progress=progress,
                semi_sync=session.marked,
                sequence=sequence,
                received=received,
            ).run()
        finally:
            session.close()

    @staticmethod
    def _publication_end(tail: Tail) -> int:
        return tail.publication.position if tail.name else 0

    def _make_tail(self, timeline: Timeline, recovered: Recovered | None) -> Tail:
        return Tail(
            disk=self._disk,
            timeline=timeline,
            publication=self._publication,
            contents=recovered.tail if recovered else None,
            durable=self._durable,
        )

    def _lasting(self, trouble: PeerError | SourceRefused) -> BinlogdError | None:
        """The error to end with when ``trouble`` will not pass by itself."""
        if not trouble.retriable:
            return trouble
        if isinstance(trouble, Unreachable):
            if trouble.code == 2005 and not self._reached:
                return ConfigError(trouble.message, hint=trouble.hint)
            return None
        if not isinstance(trouble, ServerError) or trouble.code not in FATAL_CODES:
            return None
        message, hint = f"the source refused: {trouble.message} (error {trouble.code})", trouble.hint
        if trouble.code == ACCESS_DENIED:
            hint = hint or "check source.user and its password"
        elif trouble.code in (1227, 1142):
            hint = hint or f"run at the source: {grant(f'{self._options.user}@%')}"
        elif "purged" in trouble.message or "Could not find first log file" in trouble.message:
            hint = (
                "transactions are missing between the store and what the source still has; keep this store for its"
                " history and begin a new one in another data_dir"
            )
        elif "position > file size" in trouble.message or "impossible position" in trouble.message:
            hint = (
                "the store holds more of this file than the source: the source lost transactions in a crash or was"
                " restored; compare the store with it before you go on"
            )
        elif "not open" in trouble.message:
            hint = "set log_bin at the source (it is on by default since 8.0) and restart it"
        elif "same server_uuid" in trouble.message or "same server_id" in trouble.message:
            hint = "another receiver has a copy of this data folder: remove auto.cnf from one of them"
        return SourceRefused(message, hint=hint, code=trouble.code)


def _how_to(session: Session) -> str:
    """What to run at a source that does not do semi-sync."""
    enable = "SET PERSIST rpl_semi_sync_source_enabled = 1"
    return enable if session.marked else f"INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'; {enable}"
