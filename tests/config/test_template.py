"""The file of binlogd init: sets nothing, misses nothing, and is right about every default."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from binlogd.config import NOT_YET, Settings
from binlogd.config.model import walk
from binlogd.config.template import render_template

TEXT = render_template()
UNCOMMENTED = re.sub(r"^#(?=[^ \n])", "", TEXT, flags=re.MULTILINE)


def flatten(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{above}{key}.")
        elif isinstance(value, list) and isinstance(value[0], dict):
            flat |= flatten(value[0], f"{above}{key}.")
        else:
            flat[above + key] = value
    return flat


def test_sets_nothing() -> None:
    assert Settings.model_validate(tomllib.loads(TEXT)) == Settings.model_validate({})


def test_has_every_option() -> None:
    assert list(flatten(tomllib.loads(UNCOMMENTED))) == [key.dotted for key in walk() if key.table is None]


def test_shows_every_default() -> None:
    written = flatten(tomllib.loads(UNCOMMENTED))
    checked = 0
    for key in walk():
        if key.table is not None or key.path[:2] == ("server", "users") or key.field.examples:
            continue
        values: Any = written[key.dotted]
        for step in reversed(key.path):
            values = {step: values}
        assert Settings.model_validate(values) == Settings.model_validate({}), key.dotted
        checked += 1
    assert checked >= 15


def test_examples_are_valid() -> None:
    values = tomllib.loads(UNCOMMENTED)
    del values["source"]["password_file"]
    user = values["server"]["users"][0]
    del user["password_file"], user["password_hash"]  # one of three, and the hash's example is cut short
    settings = Settings.model_validate(values)
    assert settings.source.hosts[1] == ("db2", 3306)
    assert settings.server.users[0].name == "repl"


def test_says_what_this_version_cannot_do() -> None:
    for key, option in NOT_YET.items():
        name = key.rpartition(".")[2]
        comment = TEXT[: TEXT.index(f"\n#{name} = ")].rpartition("\n\n")[2].replace("\n# ", " ")
        assert f"Not in this version: {option.reason}." in comment, key


def test_prose_fits_a_terminal() -> None:
    assert max(map(len, TEXT.splitlines())) <= 100
