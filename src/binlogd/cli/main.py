"""The command ``binlogd``: finds the subcommand, and turns whatever ends it into one line and an exit code.

    0    done
    1    a check or verification found something; or the machine failed us (OSError)
    2    bad usage or configuration, no file or store where one was named, an address that is taken
    3    the source refused us for good
    4    the store is damaged or in use
    70   a bug in binlogd (sysexits.h: EX_SOFTWARE)
    130  interrupted with Ctrl-C (128 + SIGINT, the shell's convention)

An error is one line on stderr, ``binlogd: what is wrong — what to do``, never a traceback; BINLOGD_DEBUG=1
prints the traceback as well. A message that quotes arguments shows no password among them.

A subcommand's module is imported only when it is used, so ``binlogd --version`` and ``status`` start fast.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from binlogd import __version__
from binlogd.errors import BinlogdError
from binlogd.redaction import hide_password_in_argv, mask_passwords

EXIT_OS_ERROR = 1
EXIT_USAGE = 2
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

# Name → what it does, in the order of a day's work. The help shows these without importing the modules.
COMMANDS = {
    "init": "Write a commented configuration file.",
    "check": "Check configuration, data folder, and the source's settings and grants.",
    "run": "Receive, serve and answer for status and health over HTTP.",
    "receive": "Only receive from the source.",
    "serve": "Only serve replicas.",
    "status": "What a running binlogd is doing.",
    "top": "What a running binlogd is doing, live in the terminal.",
    "list": "The stored files.",
    "find": "Where a GTID set or a moment is stored.",
    "events": "The events of a file, one a line.",
    "dump": "Some of the stored transactions as one binary log on stdout.",
    "purge": "Remove the oldest files.",
    "verify": "Check every stored byte, and mend what can be mended.",
}


class LazyGroup(click.Group):
    """A group whose subcommand NAME is ``command`` in ``binlogd.cli.NAME``, imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"binlogd.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of subcommands, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="binlogd", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep a MySQL source's binary log durably and serve it to replicas.

    Start with: binlogd run --source mysql://user:password@host:port
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (the process's own) and return the exit code."""
    hide_password_in_argv()
    try:
        result = cli.main(None if arguments is None else list(arguments), prog_name="binlogd", standalone_mode=False)
        # Now, so that a full disk or a closed pipe behind stdout is an error of ours and not of the
        # interpreter.
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except Exception as error:
        return _explain(error)
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    """Print the one line about ``error`` and return the exit code."""
    if os.environ.get("BINLOGD_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    if isinstance(error, BinlogdError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx is not None else "binlogd"
        return _fail(f"{error.format_message().rstrip('.')} — see {path} --help", EXIT_USAGE)
    if isinstance(error, click.ClickException):
        return _fail(error.format_message(), EXIT_USAGE)
    if isinstance(error, BrokenPipeError):
        # Whoever read stdout has gone, as in `binlogd list | head`: nobody to tell. Nothing may be flushed
        # to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OS_ERROR
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename is not None else ""
        return _fail(f"{error.strerror or error}{where} — BINLOGD_DEBUG=1 shows where it happened", EXIT_OS_ERROR)
    return _fail(
        f"internal error: {type(error).__name__}: {error} — this is a bug; BINLOGD_DEBUG=1 shows where",
        EXIT_BUG,
    )


def _fail(message: str, exit_code: int) -> int:
    print(f"binlogd: {mask_passwords(' '.join(message.split()))}", file=sys.stderr)
    return exit_code
