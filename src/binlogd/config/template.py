"""The model as a commented configuration file.

Every option stands there as ``#key = value`` at its default, or with an example where there is none, under
what the model says of it; prose begins with ``# ``. As it is, the file sets nothing. Being made from the
model, it cannot miss an option or show a wrong default.
"""

from __future__ import annotations

import enum
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from binlogd.config.load import NOT_YET
from binlogd.config.model import Key, walk
from binlogd.config.values import Written

_WIDTH = 100  # columns of prose

_HEAD = (
    "binlogd's configuration. Each option stands at its default, or with an example where it has none: "
    "remove the # of a line to change it. Only the source's hosts, user and password are needed. Each is "
    "also an environment variable, which is stronger than this file: BINLOGD_DATA_DIR, BINLOGD_SOURCE__USER. "
    "Try a change with: binlogd check"
)


def render_template() -> str:
    """The whole file, ending in a newline."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield from _prose(_HEAD)
    repeated: tuple[str, ...] | None = None
    for key in walk():
        if repeated is not None and key.path[: len(repeated)] != repeated:
            repeated = None
        yield ""
        yield from _prose(description(key))
        if key.repeated:
            repeated = key.path
            yield f"#[[{key.dotted}]]"
        elif key.table is not None:
            yield f"[{key.dotted}]"
        else:
            yield f"#{key.path[-1]} = {rendered_value(key)}"


def description(key: Key) -> str:
    """What the model says of a key, with its choices and whether this version has it."""
    text = key.field.description or ""
    kind = key.field.annotation
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        text += f" One of: {', '.join(member.value for member in kind)}."
    if key.dotted in NOT_YET:
        text += f" Not in this version: {NOT_YET[key.dotted].reason}."
    return text


def rendered_value(key: Key) -> str:
    """The default, or the example where there is none, as TOML."""
    return _toml(_value(key.field))


def _value(field: FieldInfo) -> Any:
    """The default as it is written in a file, else the example."""
    if field.examples:
        return field.examples[0]
    for extra in field.metadata:
        if isinstance(extra, Written):
            return extra.format(field.default)
    return field.default


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    assert isinstance(value, str | Path) and not isinstance(value, SecretStr), value
    # A TOML basic string escapes what JSON does.
    return json.dumps(str(value), ensure_ascii=False)


def _prose(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")
