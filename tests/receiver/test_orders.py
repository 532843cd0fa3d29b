from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from binlogd.receiver.link import Interrupted, Stopped, Wake
from binlogd.receiver.orders import Desk, Orders
from binlogd.receiver.session import Secret, SourceOptions

ORDERS = Orders((SourceOptions("db1", 3306, "repl", Secret("secret")),))


def test_what_sleeps_is_woken_by_newer_orders_until_they_are_taken() -> None:
    wake = Wake()
    desk = Desk(ORDERS, wake)
    stop = replace(ORDERS, running=False)
    threading.Timer(0.05, desk.leave, [stop]).start()

    with pytest.raises(Interrupted):
        wake.sleep(None)
    with pytest.raises(Interrupted):
        wake.check()
    assert desk.take() == stop
    wake.check()
    wake.sleep(0.001)


def test_the_same_orders_interrupt_nobody() -> None:
    wake = Wake()
    again = Orders((SourceOptions("db1", 3306, "repl", Secret("secret")),))
    Desk(ORDERS, wake).leave(again)

    wake.check()
    wake.sleep(0.001)


def test_another_password_is_another_order() -> None:
    desk = Desk(ORDERS, Wake())
    desk.leave(Orders((SourceOptions("db1", 3306, "repl", Secret("another")),)))

    assert desk.newest.sources[0].password.reveal() == "another"


def test_an_end_stays_one_whatever_else_is_told() -> None:
    wake = Wake()
    desk = Desk(ORDERS, wake)
    desk.leave(replace(ORDERS, running=False))
    wake.set()
    desk.take()

    with pytest.raises(Stopped) as told:
        wake.sleep(None)
    assert told.type is Stopped
    with pytest.raises(Stopped):
        wake.check()
