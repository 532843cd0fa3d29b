"""What ``binlogd check`` found: one line a check, as aligned text or as JSON.

    ok    source.user        repl@db1:3306 may replicate
    fail  source.gtid_mode   the source has gtid_mode=OFF — SET GLOBAL gtid_mode = ON, step by step

A line is ``ok`` (nothing to do), ``warn`` (works, but somebody should know) or ``fail`` (must be put
right); the exit code is 1 as soon as one line fails. A check is always exactly one line of output, never
wrapped by us, so that grep and a terminal both do the right thing with it. Colour only where stdout is a
terminal.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

EXIT_FAILED = 1


class Status(enum.StrEnum):
    """How one check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


_COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}
_STATUS_WIDTH = max(len(status) for status in Status)


@dataclass(frozen=True, slots=True)
class Line:
    """One check's result: ``subject`` is what was looked at, ``hint`` what to do about it, if anything."""

    status: Status
    subject: str
    message: str
    hint: str = ""


def ok(subject: str, message: str) -> Line:
    """Nothing to do about ``subject``."""
    return Line(Status.OK, subject, message)


def warn(subject: str, message: str, hint: str = "") -> Line:
    """``subject`` works, but somebody should know."""
    return Line(Status.WARN, subject, message, hint)


def fail(subject: str, message: str, hint: str = "") -> Line:
    """``subject`` must be put right."""
    return Line(Status.FAIL, subject, message, hint)


def worst(lines: Sequence[Line]) -> Status:
    """The worst status among ``lines``; ``ok`` when there are none."""
    order = tuple(Status)
    return max((line.status for line in lines), key=order.index, default=Status.OK)


def exit_code(lines: Sequence[Line]) -> int:
    """1 when any line fails, else 0: a warning is no failure."""
    return EXIT_FAILED if worst(lines) is Status.FAIL else 0


def report(lines: Sequence[Line], *, as_json: bool, stream: TextIO | None = None) -> int:
    """Write all lines to ``stream`` (stdout) and return the exit code."""
    out = sys.stdout if stream is None else stream
    if as_json:
        _write_json(lines, out)
    else:
        _write_text(lines, out)
    return exit_code(lines)


def _write_json(lines: Sequence[Line], out: TextIO) -> None:
    checks = [
        {"status": line.status.value, "subject": line.subject, "message": line.message, "hint": line.hint}
        for line in lines
    ]
    json.dump({"status": worst(lines).value, "checks": checks}, out, indent=2, ensure_ascii=False)
    out.write("\n")


def _write_text(lines: Sequence[Line], out: TextIO) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    # The stream's own isatty decides on colour; soft_wrap leaves long lines to the terminal.
    console = Console(file=out, highlight=False, markup=False, emoji=False, soft_wrap=True)
    width = max((cell_len(_one_line(line.subject)) for line in lines), default=0)
    for line in lines:
        subject = _one_line(line.subject)
        text = Text()
        text.append(line.status.value.ljust(_STATUS_WIDTH), style=_COLOURS[line.status])
        text.append("  " + subject + " " * (width - cell_len(subject)) + "  ")
        text.append(_one_line(line.message))
        if line.hint:
            text.append(f" — {_one_line(line.hint)}", style="dim")
        console.print(text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
