"""A listener in a thread of its own, on the event loop that it has in production, over a store made byte by byte."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pymysql
from pymysql.connections import Connection

from binlogd.sender.catalog import Catalog
from binlogd.sender.certificates import tls_context
from binlogd.sender.listener import Listener, listen
from binlogd.sender.service import Service, User
from binlogd.sender.sql.statements import Role
from binlogd.store.disk import Disk
from binlogd.store.layout import DataFolder, Identity
from binlogd.store.publication import Publication
from binlogd.wire.auth import Account
from tests.cli.support import make_store
from tests.wire.support import rsa_key

T = TypeVar("T")
WAIT = 20.0
IDENTITY = Identity("5e11fa47-71ca-11e1-9e33-c80aa9429562", 4711)
PASSWORD = "S3CRET"


def anybody(_: str) -> bool:
    return True


def nobody(_: str) -> bool:
    return False


USERS = {
    name: User(Account(name, PASSWORD), role, allows)
    for name, role, allows in (
        ("repl", Role.REPLICA, anybody),
        ("admin", Role.ADMIN, anybody),
        ("elsewhere", Role.ADMIN, nobody),
    )
}


async def no_receiver() -> AsyncGenerator[Publication | None, None]:
    """What a sender follows when no receiver runs."""
    none: tuple[Publication, ...] = ()
    for publication in none:
        yield publication


def make_service(folder: Path, **options: Any) -> Service:
    """A service over the store in ``folder``."""
    data = DataFolder(folder)
    settings: dict[str, Any] = {
        "folder": data,
        "catalog": Catalog(data),
        "identity": IDENTITY,
        "users": USERS,
        "tls": None,
        "rsa_key": rsa_key(),
        "require_tls": False,
        "max_connections": 300,
        "port": 3307,
    }
    return Service(**(settings | options))


class Listening:
    """Serves until the ``with`` block ends.

    ``host`` is what it listens on; ``tls`` gives it a certificate; ``follow`` is what a receiver says.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        tls: bool = False,
        follow: Callable[[], AsyncGenerator[Publication | None, None]] = no_receiver,
        **options: Any,
    ) -> None:
        make_store(folder)
        if tls:
            options["tls"] = tls_context(folder, Disk(), certificate=None, key=None)
        self.service = make_service(folder, **options)
        self._follow = follow
        self._socket = listen(host, 0)
        self.port: int = self._socket.getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._serving.wait(WAIT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(WAIT)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
        with suppress(ImportError):
            from uvloop import new_event_loop
        with asyncio.Runner(loop_factory=new_event_loop) as runner, suppress(asyncio.CancelledError):
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._serving.set()
        await Listener(self.service, self._socket, self._follow).run()

    def ask(self, what: Callable[[], T]) -> T:
        """``what()`` in the listener's loop."""

        async def asking() -> T:
            return what()

        return self._within(asking())

    def _within(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until ``condition()``, asked in the loop, is true."""
        deadline = time.monotonic() + WAIT
        while not self.ask(condition):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def until_empty(self) -> None:
        """Wait until nobody is connected."""
        self.until(lambda: not self.service.connections)

    def connect(self, user: str = "admin", password: str = PASSWORD, **options: Any) -> Connection[Any]:
        """A PyMySQL connection, without TLS unless ``options`` say so."""
        arguments: dict[str, Any] = {"host": "127.0.0.1", "connect_timeout": 10, "ssl_disabled": True, **options}
        return pymysql.connect(port=self.port, user=user, password=password, **arguments)

    def query(self, sql: str, **options: Any) -> list[tuple[Any, ...]]:
        connection = self.connect(**options)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        finally:
            connection.close()
