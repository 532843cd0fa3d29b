"""One client from its first byte to its last: login, statements, and at most one dump at a time.

A thin shell around ``wire.ServerConnection``: it moves bytes, runs statements through ``sql.execute`` and dumps
through ``Dump``. While a dump runs it keeps listening, so that a client that goes away is noticed at once. Everything
has a limit in time: logging in, taking a block of a dump. What a stranger may cost, and how late a refusal is answered
so that passwords cannot be guessed fast, is the gate's to say.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from binlogd.binlog.gtid import GtidSet, GtidSyntaxError
from binlogd.errors import ProtocolError, Refusal
from binlogd.logs import get_logger
from binlogd.sender.channel import Channel
from binlogd.sender.columns import collation_id, collation_name, definition
from binlogd.sender.dump import Dump, DumpRequest
from binlogd.sender.gate import TOO_MANY
from binlogd.sender.listing import Listing
from binlogd.sender.service import Connection, Service, User
from binlogd.sender.sql.execute import execute
from binlogd.sender.sql.refusals import no_dump, query_interrupted, without_secrets
from binlogd.sender.sql.results import ColumnSpec, Errand, EventListing, Ok, ResultSet, Wait
from binlogd.sender.sql.session import SessionState, announcement
from binlogd.sender.sql.statements import Role
from binlogd.wire.auth import Account, make_nonce
from binlogd.wire.commands import (
    BinlogDump,
    BinlogDumpGtid,
    Command,
    InitDb,
    Ping,
    Query,
    Quit,
    RegisterReplica,
    ResetConnection,
    Statistics,
)
from binlogd.wire.results import Column
from binlogd.wire.server import ServerConnection, ServerState

LOGIN_TIMEOUT = 10.0  # seconds from the first byte to being logged in, MySQL's connect_timeout
IDLE_TIMEOUT = 28_800.0  # seconds between statements, MySQL's wait_timeout
REPLY_TIMEOUT = 60.0  # seconds to take an answer, MySQL's net_write_timeout
SHORTEST_HEARTBEAT = 0.001  # seconds, MySQL's own least SOURCE_HEARTBEAT_PERIOD
WAIT_PACE = 0.005  # seconds between two looks at what is published, for each who waits for GTIDs
NON_BLOCK = 1  # BINLOG_DUMP_NON_BLOCK: end at the end instead of waiting
HEARTBEAT_V2 = 2  # USE_HEARTBEAT_EVENT_V2 of MySQL 8.0.26; MariaDB uses the bit for something else
ER_UNKNOWN_COM = 1047
DUMPERS = frozenset({"mysqldump", "mariadb-dump", "mysqlpump"})  # as they name themselves at login
LONGEST_TIMELINE = 9  # digits of a timeline's number

T = TypeVar("T")
log = get_logger(__name__)


class Conversation:
    """Serves one accepted socket until ``run`` returns."""

    def __init__(self, service: Service, connection: Connection, accepted: socket.socket) -> None:
        self._service = service
        self._connection = connection
        self._channel = Channel(accepted)
        self._user: User | None = None
        self._wire = ServerConnection(
            server_version=service.version(),
            connection_id=connection.id,
            nonce=make_nonce(),
            tls_available=service.tls is not None,
            rsa_key=service.rsa_key,
            find_account=self._find_account,
            fast_auth_cache=service.cache,
            require_tls=service.require_tls,
            peer_host=connection.address,
            decoy=service.decoy,
            admit=lambda _: service.gate.admit(connection),
            in_steps=True,
        )
        self._session = SessionState(connection.id, "", connection.address)

    async def run(self) -> None:
        """Everything; raises nothing but cancellation that nobody of ours asked for."""
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                entered = await self._log_in()
            if entered:
                await self._converse()
        except (OSError, TimeoutError, ssl.SSLError):
            pass  # the client went away or fell silent: nothing to tell it
        except ProtocolError as bad:
            log.info("client broke the protocol", client=self._connection.address, error=bad.message)
            with suppress(OSError, TimeoutError):
                await self._flush()
        except asyncio.CancelledError:
            if not self._connection.killed:
                raise
            await self._say_why()
        finally:
            self._channel.close()

    async def _say_why(self) -> None:
        """The last words of a connection that was ended: possible only between two packets."""
        reason = self._connection.killed_why
        dump = self._connection.dump
        if reason is None or dump is None or self._wire.state is not ServerState.STREAMING:
            return
        if not dump.between_packets:
            return
        self._wire.end_stream(dump.sequence)
        self._wire.reply_error(reason.code, reason.sqlstate, reason.message)
        with suppress(OSError, TimeoutError):
            await self._flush()

    async def _flush(self) -> None:
        data = self._wire.data_to_send()
        if data:
            await self._channel.send(data, REPLY_TIMEOUT)

    def _find_account(self, name: str) -> Account | None:
        self._user = self._service.find_user(name, self._connection.address)
        return self._user.account if self._user else None

    def _work(self) -> bool:
        """A step of computing for a login; whether there is another."""
        self._wire.work()
        return self._wire.state is ServerState.HASHING

    async def _log_in(self) -> bool:
        wire, channel, connection = self._wire, self._channel, self._connection
        await self._flush()
        while wire.state not in (ServerState.READY, ServerState.CLOSED):
            if wire.state is ServerState.WANT_TLS:
                assert self._service.tls is not None
                await channel.start_tls(self._service.tls, wire.remainder())
                wire.tls_established()
                continue
            data = await channel.receive(wire.wanted)
            if not data:
                return False
            wire.receive(data)
            if wire.state is ServerState.HASHING:
                await self._service.gate.work(self._work)
            if wire.account is not None or wire.refusal is None:
                await self._flush()  # a refusal has to wait a moment, see below
        connection.user = wire.user
        connection.encrypted = channel.encrypted
        connection.program = wire.attributes.get("program_name", "")[:64]
        connection.version = wire.attributes.get("_client_version", "")[:64]
        if wire.refusal is not None:
            self._service.refused += 1
            log.warning("login refused", client=connection.address, reason=wire.refusal.message)
            if wire.refusal.code != TOO_MANY.code:
                await asyncio.sleep(self._service.gate.refuse(connection))
            await self._flush()
            return False
        self._session.user = wire.user
        connection.database = self._session.database = wire.database
        collation = collation_name(wire.collation)
        if collation is not None:
            self._session.variables["collation_connection"] = collation
        connection.working("Sleep")
        return True

    async def _converse(self) -> None:
        wire, channel = self._wire, self._channel
        while True:
            command = wire.next_command()
            await self._flush()
            if command is None:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    data = await channel.receive()
                if not data:
                    return
                wire.receive(data)
                continue
            if isinstance(command, Quit):
                return
            try:
                await self._answer(command)
            except Refusal as refusal:
                wire.reply_error(refusal.code, refusal.sqlstate, refusal.message)
            self._connection.working("Sleep")
            await self._flush()
            if self._connection.killed:
                return  # by itself: what it has sent behind that would be answered before anything is waited for

    async def _answer(self, command: Command) -> None:
        wire, connection = self._wire, self._connection
        match command:
            case Ping():
                wire.reply_ok()
            case Statistics():
                wire.reply_text(self._service.statistics())
            case ResetConnection():
                self._session.reset()
                connection.database = None
                wire.reply_ok()
            case InitDb():
                raise Refusal(1049, "42000", f"Unknown database '{command.database}'")
            case Query():
                self._service.questions += 1
                connection.working("Query", without_secrets(command.sql))
                await self._query(command.sql)
            case RegisterReplica():
                connection.registered = command
                wire.reply_ok()
            case BinlogDump() | BinlogDumpGtid():
                await self._dump(command)
            case _:
                raise Refusal(ER_UNKNOWN_COM, "08S01", "Unknown command")

    async def _query(self, text: str) -> None:
        service = self._service
        if self._connection.program in DUMPERS:
            raise no_dump(self._connection.program)
        outcome = execute(text, session=self._session, facts=service.facts(), backend=service, role=self._role())
        while isinstance(outcome, Wait):
            outcome = outcome.finish(await self._beside_listening(self._published(outcome)))
        if isinstance(outcome, Errand):
            outcome = outcome.finish(await service.ask_receiver(outcome.question))
        self._connection.database = self._session.database
        if isinstance(outcome, EventListing):
            await self._beside_listening(self._show_events(outcome))
        elif isinstance(outcome, ResultSet):
            self._wire.reply_result(self._columns(outcome.columns), outcome.text_rows())
        elif isinstance(outcome, Ok):
            self._wire.reply_ok(warnings=outcome.warnings)

    async def _beside_listening(self, work: Coroutine[Any, Any, T]) -> T:
        """What may take long: it ends when the client goes away. KILL QUERY sets the connection's ``interruption``."""
        self._connection.interruption = asyncio.Event()
        working, listening = asyncio.create_task(work), asyncio.create_task(self._listen_ahead())
        try:
            await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            listening.result()
            raise ConnectionAbortedError
        finally:
            self._connection.interruption = None
            for task in (working, listening):
                task.cancel()
            await asyncio.gather(working, listening, return_exceptions=True)

    async def _listen_ahead(self) -> None:
        """Returns when the client is gone; what it says ahead of its turn is kept, as far as that is allowed."""
        while data := await self._channel.receive():
            self._wire.receive(data)

    async def _published(self, wait: Wait) -> bool:
        """Whether what is waited for is published in time. Refusal 1317 when the query is killed."""
        catalog, interruption = self._service.catalog, self._connection.interruption
        assert interruption is not None
        interrupted = asyncio.create_task(interruption.wait())
        deadline = None if wait.timeout is None else time.monotonic() + wait.timeout
        pending = list(wait.gtids.runs())  # looked at from the end: what is there is not looked at again
        try:
            while True:
                seen = catalog.publication
                while pending and _has(seen.executed, pending[-1]):
                    pending.pop()
                if not pending:
                    return True
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                more = asyncio.create_task(catalog.wait(seen, left))
                try:
                    await asyncio.wait((more, interrupted), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    more.cancel()
                if interrupted.done():
                    raise query_interrupted()
                await asyncio.sleep(WAIT_PACE)
        finally:
            interrupted.cancel()

    async def _show_events(self, asked: EventListing) -> None:
        """The rows as they are read; no more are read before those are gone."""
        interruption = self._connection.interruption
        assert interruption is not None
        listing = Listing(self._service.catalog, asked)
        step = None
        turn = asyncio.create_task(self._service.listings.acquire())
        interrupted = asyncio.create_task(interruption.wait())
        try:
            await asyncio.wait((turn, interrupted), return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise query_interrupted()
            step = asyncio.create_task(asyncio.to_thread(listing.step))
            rows = await asyncio.shield(step)  # before the head: what cannot be read at all is refused
            self._wire.begin_result(self._columns(asked.columns))
            while rows is not None:
                if interruption.is_set():
                    raise query_interrupted()
                self._wire.add_rows(rows)
                await self._flush()
                step = asyncio.create_task(asyncio.to_thread(listing.step))
                rows = await asyncio.shield(step)
            self._wire.end_result()
        finally:
            if step is not None and not step.done():
                await asyncio.wait((step,))  # a thread cannot be ended; it reads one step
            listing.close()
            interrupted.cancel()
            if not turn.cancel():
                self._service.listings.release()

    def _columns(self, specs: Sequence[ColumnSpec]) -> list[Column]:
        chosen = self._session.variables.get("collation_connection")
        collation = collation_id(str(chosen), self._service.version())
        return [definition(spec, collation) for spec in specs]

    def _role(self) -> Role:
        assert self._user is not None
        return self._user.role

    async def _dump(self, command: BinlogDump | BinlogDumpGtid) -> None:
        wire, connection, service = self._wire, self._connection, self._service
        said = announcement(self._session)
        uuid = (said.replica_uuid or "").lower()
        request = self._request(command)
        dump = Dump(
            channel=self._channel,
            catalog=service.catalog,
            live=service.live,
            request=request,
            server_id=service.identity.server_id,
            sequence=wire.begin_stream(),
        )
        by_gtid = request.auto_position
        connection.working("Binlog Dump GTID" if by_gtid else "Binlog Dump")
        service.begin_dump(
            connection,
            dump,
            uuid=uuid,
            server_id=command.server_id,
            mode="gtid" if by_gtid else "position",
        )
        log.info(
            "dump begins",
            client=f"{connection.address}:{connection.port}",
            user=connection.user,
            server_id=command.server_id,
            uuid=uuid,
            mode=connection.mode,
            file=command.file,
            position=command.position,
        )
        refusal = None
        try:
            await self._run_beside_listening(dump)
        except Refusal as refused:
            refusal = refused
            log.warning("dump refused", client=connection.address, uuid=uuid, reason=refused.message)
        finally:
            log.info(
                "dump ends",
                client=f"{connection.address}:{connection.port}",
                uuid=uuid,
                place=dump.place,
                sent_bytes=dump.sent_bytes,
            )
        if wire.state is not ServerState.STREAMING or not dump.between_packets:
            raise ConnectionAbortedError  # it took leave, or stands within an event: nothing more can be said
        wire.end_stream(dump.sequence)
        service.end_dump(connection)
        if refusal is not None:
            raise refusal
        wire.reply_eof()

    async def _run_beside_listening(self, dump: Dump) -> None:
        """The dump, ended early when the client takes leave."""
        sending = asyncio.create_task(dump.run())
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            else:
                listening.result()
                raise ConnectionAbortedError
        finally:
            for task in (sending, listening):
                task.cancel()
            await asyncio.gather(sending, listening, return_exceptions=True)

    async def _listen(self) -> None:
        """Returns when the client is gone; what it says during a dump is at most an acknowledgement or a farewell."""
        while data := await self._channel.receive():
            self._wire.receive(data)
            while (command := self._wire.next_command()) is not None:
                if isinstance(command, Quit):
                    return

    def _request(self, command: BinlogDump | BinlogDumpGtid) -> DumpRequest:
        said = announcement(self._session)
        has = None
        if isinstance(command, BinlogDumpGtid):
            try:
                has = GtidSet.decode(command.gtid_data)
            except GtidSyntaxError as bad:
                raise Refusal(1236, "HY000", f"The GTID set sent by the replica is malformed: {bad}") from bad
        return DumpRequest(
            file=command.file,
            position=command.position,
            has=has,
            auto_position=has is not None and not command.file,
            blocking=not command.flags & NON_BLOCK and command.server_id != 0,
            heartbeat=max(said.heartbeat_period / 1e9, SHORTEST_HEARTBEAT) if said.heartbeat_period else 0.0,
            heartbeat_v2=bool(command.flags & HEARTBEAT_V2) and not said.mariadb_capability,
            checksum=said.binlog_checksum,
            pinned=_timeline(said.timeline),
        )


def _has(executed: GtidSet, run: tuple[bytes, str, int, int]) -> bool:
    """Whether all of a run is in it, in time that hardly depends on the set."""
    sid, tag, first, last = run
    there, until = executed.covering(sid, tag, first)
    return there and until >= last


def _timeline(said: str | None) -> int | None:
    """The number in @binlogd_timeline."""
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) <= LONGEST_TIMELINE):
        raise Refusal(
            1236,
            "HY000",
            f"@binlogd_timeline is '{said[:40]}', and should be a number as in SELECT @@global.binlogd_timelines",
        )
    return int(said)
