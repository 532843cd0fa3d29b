"""One line a check, in text and in JSON, and the exit code."""

from __future__ import annotations

import io
import json

import pytest

from binlogd.cli.check_report import Line, Status, exit_code, fail, ok, report, warn, worst

LINES = [
    ok("config", "complete"),
    warn("source.semi_sync", "the plugin is missing", "INSTALL PLUGIN …"),
    fail("grants", "[red]no REPLICATION\nSLAVE[/red] :warning:", "GRANT it"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_aligned_text() -> None:
    out = io.StringIO()
    assert report(LINES, as_json=False, stream=out) == 1
    assert out.getvalue().splitlines() == [
        "ok    config            complete",
        "warn  source.semi_sync  the plugin is missing — INSTALL PLUGIN …",
        "fail  grants            [red]no REPLICATION SLAVE[/red] :warning: — GRANT it",
    ]


def test_long_lines_are_not_wrapped() -> None:
    out = io.StringIO()
    report([ok("x", "word " * 100)], as_json=False, stream=out)
    assert len(out.getvalue().splitlines()) == 1


def test_colour_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    out = Terminal()
    report(LINES, as_json=False, stream=out)
    assert "\x1b[32mok" in out.getvalue()
    plain = io.StringIO()
    report(LINES, as_json=False, stream=plain)
    assert "\x1b" not in plain.getvalue()


def test_json() -> None:
    out = io.StringIO()
    assert report(LINES, as_json=True, stream=out) == 1
    value = json.loads(out.getvalue())
    assert value["status"] == "fail"
    assert value["checks"][1] == {
        "status": "warn",
        "subject": "source.semi_sync",
        "message": "the plugin is missing",
        "hint": "INSTALL PLUGIN …",
    }
    assert [check["status"] for check in value["checks"]] == ["ok", "warn", "fail"]


@pytest.mark.parametrize(
    ("statuses", "result", "code"),
    [([], "ok", 0), (["ok"], "ok", 0), (["warn", "ok"], "warn", 0), (["fail", "ok", "warn"], "fail", 1)],
)
def test_exit_code(statuses: list[str], result: str, code: int) -> None:
    lines = [Line(Status(status), "s", "m") for status in statuses]
    assert worst(lines) == result
    assert exit_code(lines) == code


def test_stdout_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert report([ok("a", "b")], as_json=False) == 0
    assert capsys.readouterr().out == "ok    a  b\n"
