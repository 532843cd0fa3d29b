"""The edge of the program: exit codes, one line an error, no traceback, no password."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from binlogd import __version__, errors
from binlogd.cli.main import COMMANDS, cli, main

SECRET = "S3CRET"

# A process whose `status` command runs BODY: the boundary is tested with any failure at all.
WITH_STATUS = """
import os, sys, time, types
import click
from binlogd import errors
from binlogd.cli.main import main

@click.command()
def command():
    {body}

sys.modules["binlogd.cli.status"] = types.SimpleNamespace(command=command)
sys.exit(main(["status"]))
"""


def binlogd(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGD_")} | environ
    command = [sys.executable, "-m", "binlogd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def status_that(body: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BINLOGD_")} | environ
    command = [sys.executable, "-c", WITH_STATUS.format(body=body)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_version() -> None:
    result = binlogd("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"binlogd {__version__}\n", "")


def test_version_and_help_import_nothing_heavy() -> None:
    script = (
        "import sys; from binlogd.cli.main import main; main([sys.argv[1]]);"
        "print('heavy:', [name for name in ('pydantic', 'structlog', 'logging', 'rich', 'asyncio', 'ctypes', "
        "'cryptography', 'binlogd.config', 'binlogd.cli.run') if name in sys.modules])"
    )
    for argument in ("--version", "--help"):
        command = [sys.executable, "-c", script, argument]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert result.stdout.endswith("heavy: []\n")


def test_help_names_every_command() -> None:
    result = binlogd("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert set(COMMANDS) >= {
        *("run", "receive", "serve", "status", "top", "check", "init"),
        *("list", "find", "events", "dump", "verify", "purge"),
    }
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout
    assert binlogd("-h").stdout == result.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "binlogd: Missing command — see binlogd --help\n"),
        (["stats"], "binlogd: No such command 'stats' — see binlogd --help\n"),
        (["--nonsense"], "binlogd: No such option '--nonsense' — see binlogd --help\n"),
        (["init", "--nonsense"], "binlogd: No such option '--nonsense' — see binlogd init --help\n"),
        (["init", "a", f"mysql://u:{SECRET}@h"], "(mysql://u:x@h) — see binlogd init --help\n"),
    ],
)
def test_bad_usage(arguments: list[str], line: str) -> None:
    result = binlogd(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    # click's wording differs between versions in the quotes only.
    assert result.stderr.replace(": --nonsense", " '--nonsense'").endswith(line)
    assert len(result.stderr.splitlines()) == 1
    assert SECRET not in result.stderr


@pytest.mark.parametrize(
    ("body", "code", "line"),
    [
        ("pass", 0, ""),
        ("return 1", 1, ""),
        ("sys.exit(4)", 4, ""),
        ("click.get_current_context().exit(3)", 3, ""),
        ('raise errors.ConfigError("bad key", hint="fix it")', 2, "binlogd: bad key — fix it\n"),
        ('raise errors.ListenError("port 1 is taken")', 2, "binlogd: port 1 is taken\n"),
        ('raise errors.SourceRefused("no\\nbinlog")', 3, "binlogd: no binlog\n"),
        ('raise errors.StoreDamaged("CRC", hint="verify")', 4, "binlogd: CRC — verify\n"),
        ('raise errors.StoreInUse("locked")', 4, "binlogd: locked\n"),
        ('raise errors.Unreachable("to mysql://u:S3CRET@h")', 1, "binlogd: to mysql://u:x@h\n"),
        (
            'raise click.BadParameter("bad", param_hint="--x")',
            2,
            "binlogd: Invalid value for --x: bad — see ",
        ),
        ('raise click.ClickException("odd")', 2, "binlogd: odd\n"),
        ('open("/nowhere/x")', 1, "binlogd: No such file or directory: /nowhere/x — "),
        ("raise OSError(28, 'No space left on device')", 1, "binlogd: No space left on device — "),
        ("raise OSError('odd')", 1, "binlogd: odd — "),
        (
            "{}['x']",
            70,
            "binlogd: internal error: KeyError: 'x' — this is a bug; BINLOGD_DEBUG=1 shows where\n",
        ),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_one_line_and_the_exit_code(body: str, code: int, line: str) -> None:
    result = status_that(body)
    assert result.returncode == code
    assert result.stderr.strip("\n").startswith(line.strip("\n"))
    assert len(result.stderr.strip("\n").splitlines()) == (1 if line else 0)
    assert SECRET not in result.stderr


@pytest.mark.parametrize("exception", ["errors.ConfigError('bad')", "OSError('bad')", "RuntimeError('bad')"])
def test_traceback_on_request_only(exception: str) -> None:
    for debug, shown in (("1", True), ("0", False), ("", False)):
        result = status_that(f"raise {exception}", BINLOGD_DEBUG=debug)
        assert ("Traceback" in result.stderr) is shown
        assert result.stderr.splitlines()[-1].startswith("binlogd: ")


def test_ctrl_c() -> None:
    script = WITH_STATUS.format(body='print("ready", flush=True); time.sleep(60)')
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert process.stderr.read().strip() == ""


def test_a_closed_pipe_is_nobodys_error() -> None:
    read, write = os.pipe()
    os.close(read)
    script = WITH_STATUS.format(body='print("x" * 100_000)')
    result = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, b"")
    script = WITH_STATUS.format(body='print("x")')  # fits the buffer: noticed only when it is flushed
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (1, b"")


def test_the_password_leaves_the_list_of_processes() -> None:
    script = (
        "import sys; from binlogd.cli.main import main; main(['--version']);"
        "print(open('/proc/self/cmdline').read().split('\\0'))"
    )
    command = [sys.executable, "-c", script, "--source", f"mysql://repl:{SECRET}@db1:3306"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "'mysql://repl:x@db1:3306'" in result.stdout
    assert SECRET not in result.stdout


def test_a_command_is_the_modules_command(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def pretend(name: str) -> Callable[[], None]:
        return lambda: ran.append(name)

    for name in COMMANDS:
        module = types.SimpleNamespace(command=click.command()(pretend(name)))
        monkeypatch.setitem(sys.modules, f"binlogd.cli.{name}", module)
        assert main([name]) == 0
    assert ran == list(COMMANDS) == cli.list_commands(click.Context(cli))


def test_every_command_loads_and_explains_itself() -> None:
    folder = Path(errors.__file__).parent / "cli"
    for name in COMMANDS:
        if (folder / f"{name}.py").exists():
            result = binlogd(name, "--help")
            assert result.returncode == 0, result.stderr
            assert result.stdout.startswith(f"Usage: binlogd {name} ")
