"""From layers to ``Settings``, or to one ``ConfigError``: which key, what value, where, and what is allowed.

Three things make a configuration wrong beyond a single value: an option that this version cannot honour
(``NOT_YET``), a missing source where one is needed, and a listener on which nobody could log in. What is
needed depends on the ``Purpose``. The tools that only read the store need none of it: ``find_data_dir``
reads no password file and asks for no source, so that ``binlogd status`` works for somebody who may not
read secrets.
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from binlogd.config.layers import Layer, Path_, dotted, load_layers, merge, origin_of
from binlogd.config.model import Settings
from binlogd.config.values import FilePath
from binlogd.errors import ConfigError
from binlogd.redaction import mask_passwords

MAX_SHOWN = 60  # characters of a wrong value that a message repeats
_SECRET_KEYS = frozenset({"password", "password_hash"})


class Purpose(enum.Enum):
    """What the settings are for, which decides what must be there."""

    RUN = "run"  # a source, and somebody who may log in (without users: the source's account)
    RECEIVE = "receive"  # a source
    SERVE = "serve"  # somebody who may log in


@dataclass(frozen=True, slots=True)
class NotYet:
    """An option that this version knows but cannot honour: when it is set so, and what to do instead."""

    is_set: Callable[[Settings], bool]
    reason: str
    hint: str


NOT_YET: dict[str, NotYet] = {
    "archive.url": NotYet(
        lambda settings: settings.archive.url is not None,
        "archiving to object storage",
        "remove the key; files stay in data_dir",
    ),
}


def load_settings(
    config: str | None = None,
    *,
    source: str | None = None,
    listen: str | None = None,
    data_dir: str | None = None,
    http: str | None = None,
    purpose: Purpose = Purpose.RUN,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings: what the command line says, else the environment, else the file, else the default.

    ``config`` is -c's file, ``source`` a ``mysql://`` URL, ``listen`` and ``http`` are HOST:PORT; ``None``
    is an option that was not given. Raises ConfigError, one line without secrets, for whatever is wrong.
    """
    options = {"--source": source, "--listen": listen, "--data-dir": data_dir, "--http": http}
    layers = load_layers(config, os.environ if environ is None else environ, options)
    try:
        settings = Settings.model_validate(merge(layers))
    except ValidationError as error:
        # The first is enough: a person puts right one after the other.
        raise _config_error(error.errors(include_url=False)[0], layers) from None
    for key, option in NOT_YET.items():
        if option.is_set(settings):
            where = origin_of(layers, tuple(key.split(".")))
            raise ConfigError(
                f"{key}{f' ({where})' if where else ''}: {option.reason} is not available in this version",
                hint=option.hint,
            )
    if purpose is not Purpose.SERVE:
        _require_source(settings)
    if purpose is not Purpose.RECEIVE and not settings.server.users:
        raise ConfigError(
            "server.users is missing, so nobody could log in",
            hint="add a [[server.users]] table, or the source's user and password",
        )
    return settings


def find_data_dir(
    data_dir: str | None = None, *, config: str | None = None, environ: Mapping[str, str] | None = None
) -> Path:
    """The store's folder for a tool: where ``run`` with the same options, environment and file keeps it.

    Whether it exists is the store's to say. Raises ConfigError when the place cannot be told; with
    ``data_dir`` and no ``config`` neither the environment nor a file is looked at.
    """
    if data_dir is not None and config is None:
        layers: tuple[Layer, ...] = ()
        value: Any = data_dir
    else:
        layers = load_layers(config, os.environ if environ is None else environ, {"--data-dir": data_dir})
        value = merge(layers).get("data_dir", Settings.model_fields["data_dir"].default)
    try:
        return _DATA_DIR.validate_python(value)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        detail["loc"] = ("data_dir",)
        raise _config_error(detail, layers) from None


_DATA_DIR: TypeAdapter[Path] = TypeAdapter(FilePath)


def _require_source(settings: Settings) -> None:
    source = settings.source
    url = "--source mysql://user:password@host:port"
    for key, given, hint in (
        ("hosts", bool(source.hosts), f'give {url}, or [source] hosts = ["host:port"] in a file'),
        ("user", bool(source.user), f"give {url}, or the key in a file, or BINLOGD_SOURCE__USER"),
        (
            "password",
            source.has_password,
            "give password or password_file in a file, or BINLOGD_SOURCE__PASSWORD; "
            "an empty one must be written, as in mysql://user:@host",
        ),
    ):
        if not given:
            raise ConfigError(f"source.{key} is missing", hint=hint)


def _config_error(detail: ErrorDetails, layers: tuple[Layer, ...]) -> ConfigError:
    """One line from pydantic's first complaint."""
    context = detail.get("ctx", {})
    path: Path_ = detail["loc"]
    if detail["type"] == "fault":  # raised for one key by a table's check
        path = (*path, context["key"])
    where = origin_of(layers, path)
    value = _shown(layers, path)
    head = dotted(path) + (f" = {value}" if value else "") + (f" ({where})" if where else "")
    return ConfigError(f"{head}: {_complaint(detail, context)}")


def _complaint(detail: ErrorDetails, context: Mapping[str, Any]) -> str:
    kind = detail["type"]
    if kind == "fault":
        return str(context["text"])
    if kind == "value_error":
        return str(context["error"])
    if kind in _COMPLAINTS:
        return _COMPLAINTS[kind].format_map({name: _plain(value) for name, value in context.items()})
    return detail["msg"].replace("Input should be", "must be")


_COMPLAINTS = {
    "missing": "is missing",
    "enum": "must be one of {expected}",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is far too large",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be text in quotes",
    "string_too_long": "must have at most {max_length} characters",
    "tuple_type": "must be a list, in brackets",
}


def _plain(value: Any) -> str:
    return str(value).replace("'", "").replace(" or ", ", ")


def _shown(layers: tuple[Layer, ...], path: Path_) -> str:
    """The value at ``path`` as TOML would write it, or "" when it is secret, absent or no single value."""
    if path[-1] in _SECRET_KEYS:
        return ""
    value: Any = merge(layers) if layers else {}
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)[:MAX_SHOWN]
    if not isinstance(value, str):
        return ""
    text = mask_passwords(value)
    return json.dumps(text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…", ensure_ascii=False)
