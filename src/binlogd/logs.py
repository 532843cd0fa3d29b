"""Logging: to stderr, for people on a terminal and as JSON lines for everything else.

structlog's events and the standard library's records (asyncio, aiohttp, warnings) go through one handler
and so look alike. A JSON line has ``timestamp`` (UTC, ISO 8601), ``level``, ``logger``, ``event`` and the
event's own keys; a traceback is one string under ``exception``, never with local variables, which may be
passwords.

The redactor is the last line of defence before rendering, not the first: nobody logs a secret on purpose.
It masks values whose key sounds secret and passwords inside URLs, at any depth and in tracebacks.

Loggers may be made before ``configure_logging``; until then warnings and errors reach stderr unadorned, and
stdout, which may be carrying a binary log, never sees a log line.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any, TextIO, cast

# structlog would load rich for tracebacks that we do not print: 7 MiB and a third of a start's processor time.
_rich: Any = sys.modules.setdefault("rich", cast(Any, None))
import structlog  # noqa: E402
from structlog.typing import EventDict, Processor, WrappedLogger  # noqa: E402

from binlogd.redaction import mask_passwords  # noqa: E402

if _rich is None:
    del sys.modules["rich"]

REDACTED = "[redacted]"

# A password_file is only a path.
_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)(?!_file)|secret|credential|private_key|auth_(data|response)|token", re.IGNORECASE
)
_MAX_DEPTH = 8  # of nested values; deeper ones are replaced whole rather than trusted


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """structlog processor: ``event`` without secrets."""
    return cast(EventDict, _clean(event, 0))


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


def _dumps(event: EventDict, **options: Any) -> str:
    """JSON in which what is not to be printed is escaped, not only what JSON demands: terminals show logs."""
    text = json.dumps(event, ensure_ascii=False, **options)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A peer's text must not write lines or terminal commands of its own: escape its control characters."""
    return {
        key: value if key == "exception" or not isinstance(value, str) or value.isprintable() else repr(value)
        for key, value in event.items()
    }


# What every event passes before it reaches the handler, structlog's and the standard library's alike.
_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
)

structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        *_SHARED,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger ``name``, by convention the module's: ``log.info("connected", host=host, port=port)``."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(name))


def configure_logging(log_format: str = "auto", level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send events of at least ``level`` to ``stream`` (stderr), as ``human`` or ``json``.

    May be called again, to change it. ``auto`` is human on a terminal and JSON otherwise. Warnings of
    Python and asyncio are events of level warning.
    """
    out = sys.stderr if stream is None else stream
    terminal = out.isatty()
    human = terminal if log_format == "auto" else log_format == "human"
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_human(colours=terminal and "NO_COLOR" not in os.environ) if human else _json()),
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    if not sys.warnoptions:
        # Python hides these by default: asyncio's transports and tasks that nobody closed.
        warnings.simplefilter("default", ResourceWarning)


def _human(*, colours: bool) -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
        structlog.processors.format_exc_info,
        redact,
        _printable,
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),
    ]


def _json() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]
