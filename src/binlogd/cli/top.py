"""``binlogd top``: what a running binlogd is doing, live in the terminal.

A frame is made of two snapshots of the status (control/status.py), the second for what is, both for what went through
between them. It takes the whole screen and gives it back, whatever ends it; a line that is too long for the terminal is
cut, but for alarms, which must be read. NO_COLOR is respected.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from binlogd.cli.options import config_option, data_dir_option

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

QUIT = b"qQ\x04\x1b"  # and Ctrl-D, and Escape
COLOURS = {"critical": "bold red", "warning": "yellow", "streaming": "green"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A status, and when it was asked for, by the monotonic clock."""

    at: float
    status: dict[str, Any]


@click.command(short_help="What a running binlogd is doing, live in the terminal.")
@click.option("--interval", metavar="SECONDS", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True)
@click.option("--once", is_flag=True, help="Print one frame, without rates, and end.")
@config_option
@data_dir_option
def command(interval: float, once: bool, config: str | None, data_dir: str | None) -> None:
    """Show source, store, replicas and alarms, again every second; q quits."""
    from rich.console import Console
    from rich.live import Live

    from binlogd.cli.stores import existing_store
    from binlogd.control.status import collect

    folder = existing_store(data_dir, config)

    def look() -> Snapshot:
        return Snapshot(time.monotonic(), collect(folder))

    console = Console(highlight=False, soft_wrap=False)
    if once:
        console.print(frame(look(), None))
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("this is for a terminal: --once prints one frame, binlogd status --json is for programs")
    before, now = None, look()
    with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(frame(now, before), refresh=True)
            if _pressed(interval):
                return
            before, now = now, look()


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one and are not shown; behind it the terminal is as it was."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def _pressed(seconds: float) -> bool:
    """Wait so long, or until a key quits (or the terminal is gone); whether it did."""
    end = time.monotonic() + seconds
    while select.select([sys.stdin], [], [], max(end - time.monotonic(), 0))[0]:
        key = os.read(sys.stdin.fileno(), 16)
        if not key or key[:1] in QUIT:
            return True
    return False


def frame(now: Snapshot, before: Snapshot | None) -> Group:
    """Everything, as lines."""
    from rich.console import Group

    return Group(*_lines(now, before))


def _lines(now: Snapshot, before: Snapshot | None) -> Iterator[Text]:
    from binlogd.cli.status import source_line
    from binlogd.cli.tables import aligned, printable

    status = now.status
    source, store, server = status["source"], status["store"], status["server"]
    published = store["published"]
    uptime = f", up {_span(status['uptime_s'])}" if status["uptime_s"] is not None else ""
    yield _line(f"binlogd {status['version']}{uptime}", "bold")
    rows = [
        ("source", source_line(source)),
        ("received", _received(source, now, before)),
        ("ack", _ack(source)),
        ("published", f"{published['file']}:{published['position']}" if published["file"] else "nothing yet"),
        ("store", _store(store)),
        ("listener", f"{server['state']} {server.get('listen', '')}".rstrip()),
    ]
    for number, line in enumerate(aligned(rows)):
        yield _line(line, "" if number else COLOURS.get(source["state"], "yellow"))
    if status["replicas"]:
        yield _line("")
        header = ("replica", "server_id", "behind", "seconds", "sent/s", "file:position")
        table = aligned([header, *_replicas(now, before)], right=frozenset({1, 2, 3, 4}))
        yield _line(table[0], "bold")
        yield from map(_line, table[1:])
    yield _line("")
    if not status["alarms"]:
        yield _line("no alarms", "green")
    for alarm in status["alarms"]:
        colour = COLOURS.get(alarm["severity"], "")
        yield _line(printable(f"{alarm['severity'].upper()} {alarm['code']}: {alarm['message']}"), colour, cut=False)
        if alarm["hint"]:
            yield _line(printable(f"  {alarm['hint']}"), cut=False)


def _line(text: str, style: str = "", *, cut: bool = True) -> Text:
    from rich.text import Text

    return Text(text, style, no_wrap=cut, overflow="ellipsis" if cut else "fold")


def _received(source: dict[str, Any], now: Snapshot, before: Snapshot | None) -> str:
    if not source.get("file"):
        return "nothing yet"
    text = f"{source['file']}:{source['position']}"
    if before is None or "host" not in before.status["source"]:
        return text
    old = before.status["source"]
    transactions = source["transactions_received"] - old["transactions_received"]
    size = source["bytes_received"] - old["bytes_received"]
    if transactions < 0 or size < 0:  # another receiver counts from 0
        return text
    seconds = now.at - before.at
    return f"{text}  {_rate(size, seconds)}/s, {transactions / seconds:.0f} transactions/s"


def _ack(source: dict[str, Any]) -> str:
    times = source.get("ack_seconds") or {}
    known = [f"{name} {times[name] * 1000:.2f} ms" for name in ("p50", "p99", "max") if times.get(name) is not None]
    return "  ".join(known) or "none yet"


def _store(store: dict[str, Any]) -> str:
    from binlogd.cli.status import counted
    from binlogd.units import human_size

    free = f", {human_size(store['free_bytes'])} free" if store["free_bytes"] is not None else ""
    return f"{counted(store['files'], 'file')}, {human_size(store['bytes'])}{free}"


def _replicas(now: Snapshot, before: Snapshot | None) -> Iterator[tuple[str, ...]]:
    from binlogd.units import human_size

    sent = {replica["id"]: replica["sent_bytes"] for replica in before.status["replicas"]} if before else {}
    for replica in now.status["replicas"]:
        rate = ""
        if before is not None and replica["id"] in sent:
            rate = _rate(max(replica["sent_bytes"] - sent[replica["id"]], 0), now.at - before.at)
        yield (
            f"{replica['host']}:{replica['port']}",
            str(replica["server_id"]),
            human_size(replica["lag_bytes"]),
            str(replica["lag_seconds"]),
            rate,
            f"{replica['file']}:{replica['position']}",
        )


def _rate(size: int, seconds: float) -> str:
    from binlogd.units import human_size

    return human_size(round(size / seconds))


def _span(seconds: float) -> str:
    from binlogd.units import format_duration

    return format_duration(int(seconds))
