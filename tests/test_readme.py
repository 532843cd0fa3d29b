"""READMEs and runbooks tell the truth: their commands, options, keys, targets and codes exist, and their SQL works.

What a README shows is parsed from its Markdown: fenced blocks by language (``sh`` to type, ``sql`` to run, ``text``
that was printed) and inline code. A command line of binlogd is handed to click's own parser, which runs nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from binlogd import errors
from binlogd.cli import main as cli_main
from binlogd.config.layers import variable_of
from binlogd.config.load import NOT_YET
from binlogd.config.model import walk
from testbed import processes
from testbed.cluster import Cluster
from testbed.demo_checks import Connection, FirstHalf, SecondHalf, SemiSync, judge, judge_leftovers
from testbed.ports import Port

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
TARGET = re.compile(r"^make ([a-z][a-z-]*)")
OTHER_VARIABLES = {"BINLOGD_DEBUG", "BINLOGD_PURE", "BINLOGD_MYSQLD", "BINLOGD_TEST_CACHE"}

RUNBOOKS = ("docs/failover.md", "docs/failover.zh-CN.md")

both = pytest.mark.parametrize("name", READMES)
runbooks = pytest.mark.parametrize("name", RUNBOOKS)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language and lines."""

    language: str
    text: str


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def prose(text: str) -> str:
    return re.sub(r"^```\w+\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def inline(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(text))


def headings(text: str) -> list[str]:
    return [line.split(" ")[0] for line in prose(text).splitlines() if re.match(r"#+ ", line)]


def typed(text: str) -> Iterator[str]:
    """Every line that a reader types or the demo typed, continuations joined."""
    for block in blocks(text):
        lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
        if block.language == "sh":
            yield from (line for line in lines if line.strip())
        elif block.language == "text":
            yield from (line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ "))


A_SET = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"


def binlogd_lines(text: str) -> list[list[str]]:
    """Arguments of every binlogd command line, in blocks and in the prose, up to a pipe."""
    lines = [line for line in [*typed(text), *inline(text)] if re.match(r"(\S*/)?binlogd(\s|$)", line)]
    return [shlex.split(re.sub(r"\$\w+_GTID_\w+", A_SET, line.partition(" | ")[0]))[1:] for line in lines]


def parse(arguments: list[str]) -> None:
    """Parse as the command would; click's error when it would refuse."""
    if arguments in ([], ["--version"]):
        return
    command = cli_main.cli.get_command(click.Context(cli_main.cli), arguments[0])
    if command is None:
        raise click.UsageError(f"no command {arguments[0]}")
    command.make_context(arguments[0], list(arguments[1:]))


# ----------------------------------------------------------------------------------------------------- command lines


@both
def test_every_binlogd_command_line_is_accepted(name: str) -> None:
    lines = binlogd_lines(read(name))
    assert {words[0] for words in lines if words} >= {"run", "check", "status", "list", "init", "serve"}
    for words in lines:
        parse(words)


def test_a_wrong_command_line_would_be_found() -> None:
    text = "```sh\n~/x/bin/binlogd run --sauce mysql://a:b@c\n```\n and `binlogd lisst`"
    lines = binlogd_lines(text)
    assert lines == [["run", "--sauce", "mysql://a:b@c"], ["lisst"]]
    for words in lines:
        with pytest.raises(click.UsageError):
            parse(words)


@both
def test_every_option_named_in_the_prose_exists(name: str) -> None:
    known = {"--read-from-remote-server"}  # mysqlbinlog's
    for command in cli_main.COMMANDS:
        found = cli_main.cli.get_command(click.Context(cli_main.cli), command)
        assert found is not None
        known |= {option for parameter in found.params for option in parameter.opts}
    named = {code for code in inline(read(name)) if code.startswith("--")}
    assert "--json" in named
    assert named <= known


@both
def test_the_make_targets_exist(name: str) -> None:
    text = read(name)
    named = {found for line in [*typed(text), *inline(text)] for found in TARGET.findall(line)}
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    assert {"demo", "test", "lint", "bench"} <= named <= targets
    assert targets == set(phony.split())


def test_ci_runs_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script and "set -euo pipefail" in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


# ------------------------------------------------------------------------------------------------ keys and numbers


@both
def test_the_configuration_keys_and_variables_exist(name: str) -> None:
    text = read(name)
    keys = {key.dotted: key for key in walk()}
    sections = {key.split(".")[0] for key in keys if "." in key}
    named = {code.split(" = ")[0] for code in inline(text) if re.match(rf"({'|'.join(sections)})\.\w+", code)}
    assert "source.hosts" in named
    assert named <= set(keys)
    variables = set(re.findall(r"BINLOGD_\w+", text))
    assert variables <= {variable_of(key.path) for key in keys.values()} | OTHER_VARIABLES


@both
def test_the_defaults_in_the_table_are_the_defaults(name: str) -> None:
    template = subprocess.run(
        [sys.executable, "-c", "from binlogd.config.template import render_template; print(render_template())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", read(name), re.MULTILINE)
    assert len(rows) >= 8
    for key, default in rows:
        section, _, option = key.rpartition(".")
        table = template.split(f"\n[{section}]\n")[1].split("\n[")[0] if section else template
        (written,) = re.findall(rf"^#{option} = (.*)$", table, re.MULTILINE)
        assert written.strip('"') == default, key


@both
def test_what_is_not_in_this_version_is_what_the_configuration_refuses(name: str) -> None:
    parts = re.split(r"^## ", read(name), flags=re.MULTILINE)
    (part,) = [part for part in parts if "`archive.url`" in part]
    assert {code for code in inline(part) if re.fullmatch(r"[a-z]+\.\w+", code)} == set(NOT_YET)


@both
def test_the_exit_codes_are_all_there(name: str) -> None:
    shown = {int(code) for code in re.findall(r"^\| (\d+) \|", read(name), re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BinlogdError)]
    own = {cli_main.EXIT_OS_ERROR, cli_main.EXIT_USAGE, cli_main.EXIT_BUG, cli_main.EXIT_INTERRUPTED}
    assert shown == {0, *own, *(kind.exit_code for kind in kinds)}


@both
def test_the_output_shown_is_that_of_the_present_demo(name: str) -> None:
    none, nobody = SemiSync(0, 0, 0), Connection(0, 0, 0)
    first = FirstHalf(frozenset(), frozenset(), 0, frozenset(), none, "", "", ())
    second = SecondHalf(frozenset(), (), (), 0, none, (nobody, nobody), "", True, {}, 0, "", {}, (), 0)
    checks = [*judge(first, second), judge_leftovers([], ROOT)]
    (shown,) = [block.text for block in blocks(read(name)) if "SIGKILL" in block.text]
    assert re.findall(r"^  (\S.*?)  .*  ok$", shown, re.MULTILINE) == [check.what for check in checks]
    assert f"All {len(checks)} checks hold" in shown


# -------------------------------------------------------------------------------------------------- two languages


def test_both_have_the_same_headings_blocks_and_code() -> None:
    english, chinese = map(read, READMES)
    assert headings(english) == headings(chinese)
    assert len(headings(english)) > 10
    assert blocks(english) == blocks(chinese)
    tables = [re.findall(r"^\|[^|]*\|", text, re.MULTILINE) for text in (english, chinese)]
    assert len(tables[0]) == len(tables[1])
    # The same things are named, however often each language has to repeat one.
    assert set(inline(english)) == set(inline(chinese))


def test_both_runbooks_have_the_same_headings_blocks_and_code() -> None:
    english, chinese = map(read, RUNBOOKS)
    assert headings(english) == headings(chinese)
    assert len(headings(english)) > 10
    assert blocks(english) == blocks(chinese)
    assert english.count("\n| ") == chinese.count("\n| ")
    assert set(inline(english)) == set(inline(chinese))


@runbooks
def test_the_runbook_names_only_commands_and_keys_that_exist(name: str) -> None:
    text = read(name)
    for words in binlogd_lines(text):
        parse(words)
    keys = {key.dotted for key in walk()}
    named = {code.split(" = ")[0] for code in inline(text) if re.match(r"(source|store|server|http)\.\w+ =", code)}
    assert named and named <= keys
    (shown,) = [tomllib.loads(block.text) for block in blocks(text) if block.language == "toml"]
    assert {f"{section}.{key}" for section in ("source", "server") for key in shown[section]} <= keys


@pytest.mark.parametrize("name", [*READMES, *RUNBOOKS])
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", prose(read(name)))
    assert links
    for link in links:
        assert ((ROOT / name).parent / link).is_file()


# ------------------------------------------------------------------------------------------------------ it works


def statements(sql: str) -> list[str]:
    return [statement.strip() for statement in sql.split(";") if statement.strip()]


def names_of_checks(report: str) -> list[str]:
    """Of each line, in their order: status, name, what is there."""
    return re.findall(r"^(?:ok|warn|fail) +(\S+) ", report, re.MULTILINE)


def shown_check(text: str) -> str:
    """The sample of what ``binlogd check`` prints."""
    (shown,) = [block.text for block in blocks(text) if block.text.startswith("$ binlogd check ")]
    return shown


OF_THE_MACHINE = {"data_dir.file_system", "data_dir.inodes"}
"""Checks that not every machine has anything to say of."""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.servers
def test_the_quick_start_works_as_it_is_written(cluster: Cluster, tmp_path: Path) -> None:
    text = read("README.md")
    account, semi_sync, failover = (block.text for block in blocks(text) if block.language == "sql")
    (run,) = [
        words for words in binlogd_lines(text) if words[:1] == ["run"] and "mysql://repl:secret@db1:3306" in words
    ]
    source = cluster.server("source", replication_user=False)
    replica = cluster.server("replica", replication_user=False)
    ports = Port(), Port()
    address = {
        "mysql://repl:secret@db1:3306": f"mysql://repl:secret@{source.host}:{source.port}",
        "0.0.0.0:3307": f"127.0.0.1:{ports[0].number}",
    }
    arguments = [address.get(word, word) for word in run] + ["--http", f"127.0.0.1:{ports[1].number}"]

    source.execute(*statements(account))
    binlogd = processes.start(
        [sys.executable, "-m", "binlogd", *arguments],
        cwd=tmp_path,
        log=tmp_path / "log",
        environ={"BINLOGD_CONFIG": ""},
    )
    try:
        source.wait_until("SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
        source.wait_until(lambda: listens(ports[0].number), what="a listener of binlogd")
        source.execute(*statements(semi_sync))
        source.execute(
            "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)", "INSERT INTO shop.t VALUES (1)"
        )
        counters: dict[str, str] = dict(source.query(statements(semi_sync)[-1]))
        assert counters["Rpl_semi_sync_source_clients"] == "1"
        assert int(counters["Rpl_semi_sync_source_yes_tx"]) >= 3 and counters["Rpl_semi_sync_source_no_tx"] == "0"
        check = subprocess.run(
            [sys.executable, "-m", "binlogd", "check", *arguments[1:]],
            cwd=tmp_path,
            env={**os.environ, "BINLOGD_CONFIG": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        sample = names_of_checks(shown_check(text))
        assert len(sample) > 30
        assert [name for name in names_of_checks(check.stdout) if name not in OF_THE_MACHINE] == [
            name for name in sample if name not in OF_THE_MACHINE
        ], check.stdout + check.stderr
        executed = source.gtid_executed
        source.kill()
        replica.execute(*statements(failover.replace("binlogd1", "127.0.0.1").replace("3307", str(ports[0].number))))
        replica.wait_for_gtid(executed)
        assert replica.value("SELECT COUNT(*) FROM shop.t") == 1
        assert (tmp_path / "binlogd-data").is_dir()
        binlogd.send_signal(signal.SIGTERM)
        assert binlogd.wait(30) == 0, (tmp_path / "log").read_text()
    finally:
        if binlogd.poll() is None:
            binlogd.kill()
            binlogd.wait()
        for port in ports:
            port.release()


# ------------------------------------------------------------------------------------------------------- Makefile


def make(tmp_path: Path, python: str) -> subprocess.CompletedProcess[str]:
    """``make setup`` with a Python that is ``python``, a shell script's body."""
    stub = tmp_path / "python3"
    stub.write_text(f"#!/bin/sh\n{python}\n")
    stub.chmod(0o755)
    return subprocess.run(
        ["make", "--no-print-directory", "setup", f"PYTHON={stub}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ('case "$2" in *ensurepip*) exit 1;; esac', "sudo apt-get install python3-venv"),
        ('case "$1" in -V) echo Python 3.10.12; exit;; esac; exit 1', "is Python 3.10.12"),
    ],
    ids=["without python3-venv", "too old"],
)
def test_setup_on_a_bare_machine_says_what_to_install(tmp_path: Path, python: str, says: str) -> None:
    done = make(tmp_path, python)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "venv").exists()


def test_setup_without_python_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "setup", f"PYTHON={tmp_path / 'none'}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "sudo apt-get install python3 python3-venv" in done.stderr
