"""Log lines: JSON for programs, text for people, secrets for nobody. In processes: logging is global."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from binlogd.logs import REDACTED, redact

SETUP = """
import asyncio, logging, sys, warnings
from binlogd.logs import configure_logging, get_logger
log = get_logger("binlogd.test")
"""


def run(script: str, *, expect_stdout: str = "") -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        [sys.executable, "-c", SETUP + script], capture_output=True, text=True, check=True, env=environ
    )
    assert result.stdout == expect_stdout, "stdout is for data"
    return result.stderr


def json_lines(script: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(script).splitlines()]


def on_terminal(script: str) -> str:
    """What ``script`` writes to stderr when that is a terminal."""
    ours, theirs = pty.openpty()
    try:
        environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        subprocess.run([sys.executable, "-c", SETUP + script], stderr=theirs, check=True, env=environ)
        return os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)


def test_json_when_stderr_is_no_terminal() -> None:
    before = datetime.now(UTC)
    (line,) = json_lines('configure_logging(); log.info("connected", host="db1", port=3306)')
    assert before <= datetime.fromisoformat(line.pop("timestamp")) <= datetime.now(UTC)
    expected = {"event": "connected", "level": "info", "logger": "binlogd.test", "host": "db1", "port": 3306}
    assert line == expected


def test_human_on_a_terminal() -> None:
    text = on_terminal('configure_logging(); log.warning("connected", host="db1")')
    assert "connected" in text and "warning" in text and "db1" in text
    assert "\x1b[" in text, "in colour"
    assert not text.startswith("{")


def test_json_on_a_terminal_when_asked() -> None:
    assert json.loads(on_terminal('configure_logging("json"); log.info("connected")'))["event"] == "connected"


def test_human_without_colour_when_asked() -> None:
    text = run('configure_logging("human"); log.info("connected", host="db1")')
    assert "connected" in text and "host=db1" in text
    assert "\x1b" not in text


def test_level() -> None:
    lines = json_lines('configure_logging(level="warning"); log.info("no"); log.warning("yes"); log.error("yes")')
    assert [line["event"] for line in lines] == ["yes", "yes"]
    lines = json_lines('configure_logging(level="error"); configure_logging(level="debug"); log.debug("yes")')
    assert [line["event"] for line in lines] == ["yes"]


def test_standard_library_records_look_alike() -> None:
    (line,) = json_lines('configure_logging(); logging.getLogger("asyncio").warning("slow %s", "mysql://u:S3@h")')
    assert (line["event"], line["level"], line["logger"]) == ("slow mysql://u:x@h", "warning", "asyncio")


def test_asyncio_and_python_warnings_are_seen() -> None:
    lines = json_lines(
        """
configure_logging()
async def fails():
    raise ValueError("lost")
async def forgotten():
    pass
async def main():
    asyncio.create_task(fails())
    forgotten()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(main())
warnings.warn("unclosed transport", ResourceWarning)
"""
    )
    text = "\n".join(line["event"] for line in lines)
    assert "Task exception was never retrieved" in text
    assert "never awaited" in text
    assert "unclosed transport" in text
    assert any("ValueError: lost" in line.get("exception", "") for line in lines)


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_tracebacks_show_no_secrets(log_format: str) -> None:
    text = run(
        f"""
configure_logging("{log_format}")
try:
    password = "S3CRET"
    raise ValueError("mysql://u:S3CRET%40@h")
except ValueError as error:
    log.exception("failed", error=error, password=password)
    log.error("failed", exc_info=True)
"""
    )
    assert text.count("Traceback") == 2
    assert "mysql://u:x@h" in text
    # Once in each traceback of the script itself there would be its source, but -c has no source lines.
    assert "S3CRET" not in text


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_peer_cannot_write_lines_of_its_own(form: str) -> None:
    said = "a\nroot: all is well\x1b[2J \x9b2J \x85 \u2028 \u202e \x7f \ud800"
    text = run(f'configure_logging("{form}"); log.info("error", text={said!r})')
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    if form == "json":
        assert json.loads(text)["text"] == said


def test_unconfigured_never_writes_to_stdout() -> None:
    assert "careful" in run('log.info("nothing"); log.warning("careful")')


@pytest.mark.parametrize(
    ("event", "clean"),
    [
        ({"password": "S3"}, {"password": REDACTED}),
        ({"source_password": b"S3"}, {"source_password": REDACTED}),
        (
            {"PASSWD": 1, "passphrase": 2, "client_secret": 3},
            dict.fromkeys(("PASSWD", "passphrase", "client_secret"), REDACTED),
        ),
        ({"auth_response": b"S3", "api_token": "S3"}, {"auth_response": REDACTED, "api_token": REDACTED}),
        ({"password_file": "/p"}, {"password_file": "/p"}),
        ({"event": "to mysql://u:S3@h"}, {"event": "to mysql://u:x@h"}),
        (
            {"a": [{"password": "S3"}, ("mysql://u:S3@h", 5)]},
            {"a": [{"password": REDACTED}, ["mysql://u:x@h", 5]]},
        ),
        ({"error": ValueError("mysql://u:S3@h")}, {"error": "ValueError: mysql://u:x@h"}),
        ({"user": "repl", "bytes": 5, "ok": None}, {"user": "repl", "bytes": 5, "ok": None}),
    ],
    ids=str,
)
def test_redacts(event: dict[str, Any], clean: dict[str, Any]) -> None:
    assert redact(None, "info", event) == clean


def test_redacts_what_is_too_deep_to_look_into() -> None:
    deep: Any = "S3CRET"
    for _ in range(20):
        deep = {"a": deep}
    assert "S3CRET" not in str(redact(None, "info", {"deep": deep}))
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert REDACTED in str(redact(None, "info", loop))


def test_logging_loads_nothing_heavy() -> None:
    """Each of the processes that run for ever has it in memory."""
    script = "import binlogd.logs, sys; print([name for name in ('rich', 'pygments') if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", script + "; import rich"], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
