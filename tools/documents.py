"""Documents made from the program, so that none can miss an option or show a wrong default.

    docs/configuration.md           from the model of the configuration
    contrib/man/binlogd.1           from the commands
    contrib/completion/binlogd.*    click's own scripts, which ask binlogd at each press of the tab key

``python -m tools.documents`` writes those that changed; ``make docs`` is that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from binlogd import __version__
from binlogd.cli import main as program
from binlogd.cli import receiver_process, run, sender_process
from binlogd.config.model import Key, walk
from binlogd.config.template import description, rendered_value

ROOT = Path(__file__).parent.parent
SHELLS = ("bash", "zsh", "fish")
FIXED = {*receiver_process.FIXED, *sender_process.FIXED, *run.FIXED}  # keys or sections that a restart alone changes

EXITS = (
    ("0", "Done."),
    ("1", "A check or a verification found something, or the machine failed."),
    ("2", "Wrong usage or configuration, or an address in use."),
    ("3", "The source refused for good."),
    ("4", "The store is damaged or in use."),
    ("70", "A bug in binlogd."),
    ("130", "Interrupted with Ctrl-C."),
)
FILES = (
    ("./binlogd.toml, /etc/binlogd.toml", "The configuration, unless --config or BINLOGD_CONFIG names another."),
    ("/etc/binlogd/binlogd.toml", "The configuration of the service."),
    ("/var/lib/binlogd", "The store of the service."),
)


# ----------------------------------------------------------------------------------------------- the configuration


def configuration() -> str:
    """docs/configuration.md."""
    return "\n".join(_configuration()) + "\n"


def _configuration() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield "Made from the program by `make docs`. `binlogd init` writes the same as a commented file."
    yield ""
    yield "The file is TOML: the one that `--config` or `BINLOGD_CONFIG` names, else `./binlogd.toml`, else"
    yield "`/etc/binlogd.toml`. Each key is also an environment variable, with lists separated by commas or as JSON."
    yield "The command line is stronger than the environment, and that stronger than the file. A key or a `BINLOGD_…`"
    yield "variable that means nothing is an error. `binlogd check` tries a configuration."
    yield ""
    yield 'Durations are `"500ms"`, `"30s"`, `"1h30m"`, `"7d"`; sizes are bytes or `"5GiB"`, `"500MB"`.'
    yield ""
    yield "On SIGHUP (`systemctl reload binlogd`, `kill -HUP` of `binlogd run`) the configuration is read again. A"
    yield "wrong one changes nothing and is named in the log. Keys that say *restart* count after a restart, and are"
    yield "named in the log when changed; the others count at once: another source, account, password or encryption is"
    yield "used from the next connection on, which is made at once, and users who are logged in stay so."
    yield from _table(None)
    for key in walk():
        if key.table is not None:
            head = f"[[{key.dotted}]]" if key.repeated else f"[{key.dotted}]"
            yield from ("", f"## {head}", "", _cell(description(key)))
            yield from _table(key)


def _table(section: Key | None) -> Iterator[str]:
    above = section.path if section else ()
    yield ""
    yield "| key | default | | SIGHUP | environment |"
    yield "|---|---|---|---|---|"
    for key in walk():
        if key.path[:-1] != above or key.table is not None:
            continue
        value = rendered_value(key)
        example = f"e.g. `{value}`" if key.field.examples else f"`{value}`"
        variable = "" if above == ("server", "users") else f"`BINLOGD_{'__'.join(key.path).upper()}`"
        fixed = any(key.dotted == name or key.dotted.startswith(f"{name}.") for name in FIXED)
        when = "restart" if fixed else "at once"
        yield f"| `{key.path[-1]}` | {example} | {_cell(description(key))} | {when} | {variable} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# ------------------------------------------------------------------------------------------------------ the manual


def manual() -> str:
    """contrib/man/binlogd.1."""
    return "\n".join(_manual()) + "\n"


def _manual() -> Iterator[str]:
    yield f'.TH BINLOGD 1 "" "binlogd {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "binlogd \\- MySQL binlog server"
    yield ".SH SYNOPSIS"
    yield ".B binlogd"
    yield ".I COMMAND"
    yield "[options]"
    yield ".SH DESCRIPTION"
    yield "binlogd follows a MySQL source as a semi\\-synchronous replica, keeps its binary log byte for byte,"
    yield "acknowledges a transaction only when it is durable, and serves the log to replicas."
    yield ".SH COMMANDS"
    context = click.Context(program.cli, info_name="binlogd")
    for name in program.cli.list_commands(context):
        command = program.cli.get_command(context, name)
        assert command is not None
        yield from _command(name, command)
    yield ".SH ENVIRONMENT"
    for variable, text in (
        ("BINLOGD_CONFIG", "The configuration file."),
        ("BINLOGD_DEBUG", "1 prints tracebacks and allows core dumps, which may show passwords."),
        ("BINLOGD_SECTION__KEY", "A key of the configuration, stronger than the file."),
    ):
        yield from (".TP", f".B {_roff(variable)}", _roff(text))
    yield ".SH FILES"
    for path, text in FILES:
        yield from (".TP", f".I {_roff(path)}", _roff(text))
    yield ".SH SIGNALS"
    for number, text in (
        ("SIGTERM, SIGINT", "Stop in order."),
        ("SIGHUP", "Read the configuration again; what needs a restart is named in the log."),
    ):
        yield from (".TP", f".B {number}", text)
    yield ".SH EXIT STATUS"
    for code, text in EXITS:
        yield from (".TP", f".B {code}", text)
    yield ".SH SEE ALSO"
    yield ".BR mysqlbinlog (1),"
    yield ".BR mysqld (8)"


def _command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    pieces = " ".join(piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]")
    yield f".SS binlogd {_roff(name)} [options] {_roff(pieces)}".rstrip()
    for number, paragraph in enumerate((command.help or "").split("\n\n")):
        if number:
            yield ".PP"
        yield _roff(" ".join(paragraph.split()))
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            yield from (".TP", f".B {_roff(record[0])}", _roff(record[1]))


def _roff(text: str) -> str:
    """Text in which nothing is a command of roff; what is not ASCII has a name there."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    escaped = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in escaped)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


# --------------------------------------------------------------------------------------------------- the completion


def completion(shell: str) -> str:
    """click's script for a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(program.cli, {}, "binlogd", "_BINLOGD_COMPLETE").source()


DOCUMENTS: dict[str, Callable[[], str]] = {
    "docs/configuration.md": configuration,
    "contrib/man/binlogd.1": manual,
    **{f"contrib/completion/binlogd.{shell}": partial(completion, shell) for shell in SHELLS},
}


def main() -> None:
    """Write what changed."""
    for name, make in DOCUMENTS.items():
        path, text = ROOT / name, make()
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"written: {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
