"""Logging: to stderr, for people on a terminal and as JSON lines for everything else.

    {"event": "connected", "level": "info", "logger": "binlogd.receiver", "host": "db1", "timestamp": "…Z"}
    2026-11-23 18:00:00 [info     ] connected                      [binlogd.receiver] host=db1

An event is a text that never changes and values by name. It travels as a record of the standard library's logging, so
that the records of others (asyncio, aiohttp, warnings) go through the same handler and look alike. A traceback is one
string under ``exception``, never with local variables, which may be passwords.

The redactor is the last line of defence before rendering, not the first: nobody logs a secret on purpose.
It masks values whose key sounds secret and passwords inside URLs, at any depth and in tracebacks.

Loggers may be made before ``configure_logging``; until then warnings and errors reach stderr unadorned, and
stdout, which may be carrying a binary log, never sees a log line.

Every process begins with this module: a general library for the same took a quarter of the receiver's start.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from binlogd.redaction import mask_passwords

REDACTED = "[redacted]"

# A password_file is only a path.
_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)(?!_file)|secret|credential|private_key|auth_(data|response)|token", re.IGNORECASE
)
_MAX_DEPTH = 8  # of nested values; deeper ones are replaced whole rather than trusted

_VALUES = "binlogd_values"  # the attribute of a record that holds an event's values

_RESET, _BOLD, _DIM, _CYAN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"
_LEVELS = {"debug": "\x1b[32m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_EVENT_WIDTH = 30  # columns: most events are shorter, so that their values stand below each other


class Logger:
    """Logs events: ``log.info("connected", host=host, port=port)``."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, /, **values: Any) -> None:
        """Something that helps to understand the program itself."""
        self._log(logging.DEBUG, event, values)

    def info(self, event: str, /, **values: Any) -> None:
        """Something that happens in good order."""
        self._log(logging.INFO, event, values)

    def warning(self, event: str, /, **values: Any) -> None:
        """Something that somebody should know."""
        self._log(logging.WARNING, event, values)

    def error(self, event: str, /, exc_info: bool | BaseException | None = None, **values: Any) -> None:
        """Something that somebody must put right; ``exc_info`` is an exception to show, True for the one at hand."""
        self._log(logging.ERROR, event, values, exc_info=exc_info)

    def exception(self, event: str, /, **values: Any) -> None:
        """``error`` with the traceback of the exception at hand."""
        self._log(logging.ERROR, event, values, exc_info=True)

    def _log(
        self, level: int, event: str, values: dict[str, Any], exc_info: bool | BaseException | None = None
    ) -> None:
        self._logger.log(level, event, extra={_VALUES: values}, exc_info=exc_info)


def get_logger(name: str) -> Logger:
    """The logger ``name``, by convention the module's."""
    return Logger(name)


def redact(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` without secrets."""
    return {key: REDACTED if _SECRET_KEY.search(str(key)) else _clean(value, 1) for key, value in values.items()}


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return mask_passwords(value)
    if isinstance(value, BaseException):
        return mask_passwords(f"{type(value).__name__}: {value}")
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return value
    if depth >= _MAX_DEPTH:
        return REDACTED
    if isinstance(value, Mapping):
        return {
            key: REDACTED if _SECRET_KEY.search(str(key)) else _clean(item, depth + 1) for key, item in value.items()
        }
    return [_clean(item, depth + 1) for item in value]


class _Formatter(logging.Formatter):
    """From a record to the event that is rendered: everything of it, without secrets."""

    def event(self, record: logging.LogRecord) -> dict[str, Any]:
        """``event``, ``level`` and ``logger``, then the values, and ``exception`` if there is one."""
        values: dict[str, Any] = getattr(record, _VALUES, {})
        event = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name, **values}
        if record.exc_info and record.exc_info[0] is not None:
            event["exception"] = self.formatException(record.exc_info)
        return redact(event)


class _Json(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = self.event(record)
        moment = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        return json.dumps(event | {"timestamp": moment}, ensure_ascii=False, default=repr)


class _Human(_Formatter):
    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        event = self.event(record)
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level, exception = event.pop("level"), event.pop("exception", None)
        what, logger = _printable(event.pop("event")), event.pop("logger")
        parts = [
            self._in(_DIM, moment),
            f"[{self._in(_LEVELS.get(level, ''), f'{level:9}')}]",
            self._in(_BOLD, f"{what:{_EVENT_WIDTH}}"),
            self._in(_DIM, f"[{logger}]"),
            *(f"{self._in(_CYAN, key)}={_shown(value)}" for key, value in event.items()),
        ]
        return " ".join(parts) + ("" if exception is None else f"\n{exception}")

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colours and colour else text


def _printable(text: str) -> str:
    """A peer's text must not write lines or terminal commands of its own: escape its control characters."""
    return text if text.isprintable() else repr(text)


def _shown(value: Any) -> str:
    """A value as people read it: quoted where one could not tell its end."""
    text = value if isinstance(value, str) else repr(value)
    plain = not isinstance(value, str) or (text.isprintable() and text and not any(char in " '\"=" for char in text))
    return text if plain else repr(value)


def configure_logging(log_format: str = "auto", level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send events of at least ``level`` to ``stream`` (stderr), as ``human`` or ``json``.

    May be called again, to change it. ``auto`` is human on a terminal and JSON otherwise. Warnings of
    Python and asyncio are events of level warning.
    """
    out = sys.stderr if stream is None else stream
    terminal = out.isatty()
    human = terminal if log_format == "auto" else log_format == "human"
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Human(colours=terminal and "NO_COLOR" not in os.environ) if human else _Json())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    if not sys.warnoptions:
        # Python hides these by default: asyncio's transports and tasks that nobody closed.
        warnings.simplefilter("default", ResourceWarning)
