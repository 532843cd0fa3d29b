"""The shared options: what a command is handed, and that config takes it as it comes."""

from __future__ import annotations

import inspect
from typing import Any

import click
import pytest
from click.testing import CliRunner

from binlogd.cli import options
from binlogd.config import load_settings


def handed(decorators: list[Any], *arguments: str) -> dict[str, Any]:
    """The keyword arguments a command with ``decorators`` gets for ``arguments``."""
    seen: dict[str, Any] = {}

    def function(**values: Any) -> None:
        seen.update(values)

    for decorator in decorators:
        function = decorator(function)
    result = CliRunner().invoke(click.command()(function), arguments, standalone_mode=False, catch_exceptions=False)
    if result.exception is not None:
        raise result.exception
    return seen


ALL = [options.settings_options, options.log_options, options.json_option]


def test_nothing_given() -> None:
    assert handed(ALL) == {
        "config": None,
        "source": None,
        "listen": None,
        "data_dir": None,
        "http": None,
        "log_format": "auto",
        "log_level": "info",
        "as_json": False,
    }


@pytest.mark.parametrize("config", ["-c", "--config"])
def test_everything_given(config: str) -> None:
    arguments = f"{config} f --source s --listen l --data-dir d --http h --log-format json --log-level debug --json"
    assert handed(ALL, *arguments.split()) == {
        "config": "f",
        "source": "s",
        "listen": "l",
        "data_dir": "d",
        "http": "h",
        "log_format": "json",
        "log_level": "debug",
        "as_json": True,
    }


@pytest.mark.parametrize(
    ("decorator", "name"),
    [
        (options.config_option, "config"),
        (options.source_option, "source"),
        (options.listen_option, "listen"),
        (options.data_dir_option, "data_dir"),
        (options.http_option, "http"),
        (options.json_option, "as_json"),
    ],
)
def test_each_alone(decorator: Any, name: str) -> None:
    assert list(handed([decorator])) == [name]


def test_load_settings_takes_them_by_name() -> None:
    parameters = set(inspect.signature(load_settings).parameters)
    assert set(handed([options.settings_options])) <= parameters


@pytest.mark.parametrize("arguments", [["--log-format", "xml"], ["--log-level", "loud"], ["--listen"], ["extra"]])
def test_bad_usage(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        handed(ALL, *arguments)
