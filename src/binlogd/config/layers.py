"""Where values come from: the command line, then the environment, then the file; the model has the defaults.

A layer is a plain nested dict as TOML would give it, and knows how to name the origin of each of its
values, so that an error says where the wrong value stands. Names are checked here, layer by layer: a key or
a ``BINLOGD_…`` variable that means nothing is an error with the nearest name that does, since a misspelt
option that is ignored is found out on the day it was needed.

Tables are merged key by key, everything else is replaced whole. The ways to give one password exclude each
other, so a layer that uses one of them replaces what weaker layers say of the others.

The environment: ``BINLOGD_SECTION__KEY`` and ``BINLOGD_DATA_DIR``; lists separated by commas or as JSON,
users as JSON. Kubernetes and docker put variables of their own into a container when a service is called
binlogd (``BINLOGD_SERVICE_HOST``, ``BINLOGD_PORT_3307_TCP``); those are theirs, and known by
``…_SERVICE_HOST`` or by the URL in ``…_PORT``.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from binlogd.config.model import Section, Settings, walk
from binlogd.config.url import parse_source_url
from binlogd.errors import ConfigError

PREFIX = "BINLOGD_"
LOCAL_CONFIG = Path("binlogd.toml")
SYSTEM_CONFIG = Path("/etc/binlogd.toml")

# Variables that are no keys: the file's place, tracebacks, and what the tests and the testbed use.
_OTHER_VARIABLES = re.compile(r"BINLOGD_(CONFIG|DEBUG|MYSQLD|PURE|TEST_\w+)")

_PASSWORDS = ("password", "password_file")
_OPTIONS = {"--data-dir": ("data_dir",), "--listen": ("server", "listen"), "--http": ("http", "listen")}

Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """Values as nested dicts, and ``origin(path)``: where the value at a path was written."""

    values: dict[str, Any]
    origin: Callable[[Path_], str]


def load_layers(config: str | None, environ: Mapping[str, str], options: Mapping[str, str | None]) -> tuple[Layer, ...]:
    """The layers, strongest first. ``options`` has the texts of --source, --listen, --data-dir, --http."""
    file = find_config(config, environ)
    layers = [_command_line(options), _environment(environ)]
    if file is not None:
        layers.append(_file(file))
    return tuple(layers)


def find_config(config: str | None, environ: Mapping[str, str]) -> Path | None:
    """The file: ``config`` (-c), else $BINLOGD_CONFIG, ./binlogd.toml, /etc/binlogd.toml, or none."""
    named = config or environ.get("BINLOGD_CONFIG")
    if named:
        return Path(named)
    return next((path for path in (LOCAL_CONFIG, SYSTEM_CONFIG) if path.exists()), None)


def merge(layers: Iterable[Layer]) -> dict[str, Any]:
    """One nested dict in which a stronger layer's values hide the weaker one's."""
    merged: dict[str, Any] = {}
    for layer in reversed(tuple(layers)):
        source = layer.values.get("source", {})
        if any(way in source for way in _PASSWORDS):
            for way in _PASSWORDS:
                merged.get("source", {}).pop(way, None)
        for key, value in layer.values.items():
            merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
    return merged


def origin_of(layers: Iterable[Layer], path: Path_) -> str:
    """Where the value at ``path`` was written, or "" when no layer has it."""
    for layer in layers:
        value: Any = layer.values
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            return layer.origin(path)
    return ""


def variable_of(path: tuple[str, ...]) -> str:
    """The environment variable of a key: ``("source", "user")`` → ``BINLOGD_SOURCE__USER``."""
    return PREFIX + "__".join(path).upper()


def _command_line(options: Mapping[str, str | None]) -> Layer:
    values: dict[str, Any] = {}
    for option, path in _OPTIONS.items():
        if options.get(option) is not None:
            _put(values, path, options[option])
    url = options.get("--source")
    if url is not None:
        values["source"] = parse_source_url(url)
    names = {path: option for option, path in _OPTIONS.items()}
    return Layer(values, lambda path: names.get(_strings(path), "--source"))


def _environment(environ: Mapping[str, str]) -> Layer:
    # Deeper than two are only the keys of a user, which have no variable: the list of users is one value.
    keys = {variable_of(key.path): key for key in walk() if len(key.path) <= 2 and (key.table is None or key.repeated)}
    foreign = tuple(_foreign_prefixes(environ))
    values: dict[str, Any] = {}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or _OTHER_VARIABLES.fullmatch(name) or name.startswith(foreign):
            continue
        key = keys.get(name)
        if key is None:
            raise ConfigError(
                f"unknown environment variable {name}",
                hint=_nearest(name, keys) or "unset it if it is not meant",
            )
        listed = get_origin(key.field.annotation) is tuple
        _put(values, key.path, _list_from(name, environ[name], key.repeated) if listed else environ[name])
    return Layer(values, lambda path: f"environment variable {variable_of(_strings(path)[:2])}")


def _foreign_prefixes(environ: Mapping[str, str]) -> Iterable[str]:
    """What the names begin with that Kubernetes or docker made for a service of theirs."""
    for name, value in environ.items():
        if name.startswith(PREFIX) and name.endswith("_SERVICE_HOST"):
            service = name.removesuffix("_SERVICE_HOST")
        elif name.startswith(PREFIX) and name.endswith("_PORT") and re.match(r"(tcp|udp|sctp)://", value):
            service = name.removesuffix("_PORT")
        else:
            continue
        yield from (f"{service}_SERVICE_", f"{service}_PORT")


def _list_from(name: str, text: str, tables: bool) -> Any:
    if not tables and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",")]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise ConfigError(f"environment variable {name} must be a JSON list", hint="its value is not shown here")
    if tables:
        _check_names({"server": {"users": value}}, Settings, (), f"in environment variable {name}")
    return value


def _file(path: Path) -> Layer:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration file {path}: {error.strerror}", hint="binlogd init writes one"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"the configuration file {path} is not UTF-8", hint="save it as UTF-8") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint="text stands in quotes") from None
    _check_names(values, Settings, (), f"in {path}")
    return Layer(values, lambda _: f"in {path}")


def _check_names(values: Any, table: type[Section], above: Path_, where: str) -> None:
    """Every key of ``values`` is one of ``table``, and every table is a table."""
    if not isinstance(values, dict):
        raise ConfigError(f"{dotted(above)} ({where}) must be a table", hint=f"write [{dotted(above)}]")
    keys = {key.path[0]: key for key in walk(table) if len(key.path) == 1}
    for name, value in values.items():
        key = keys.get(name)
        if key is None:
            path = _strings((*above, name))
            known = [other.dotted for other in walk()]
            nearest = _nearest(".".join(path), known) or f"known here: {', '.join(keys)}"
            raise ConfigError(f'unknown key "{dotted((*above, name))}" {where}', hint=nearest)
        if key.repeated:
            if not isinstance(value, list):
                raise ConfigError(
                    f"{dotted((*above, name))} ({where}) must be a list of tables",
                    hint=f"write [[{dotted((*above, name))}]]",
                )
            for index, item in enumerate(value):
                _check_names(item, _table(key.table), (*above, name, index), where)
        elif key.table is not None:
            _check_names(value, key.table, (*above, name), where)


def _table(table: type[Section] | None) -> type[Section]:
    assert table is not None, "a repeated key has a table"
    return table


def _nearest(name: str, known: Iterable[str]) -> str:
    """A hint with the known name nearest to ``name``, compared whole and by its last part, or ""."""
    import difflib  # of no use to a process whose configuration is right

    names = tuple(known)
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    if not found:
        # A key in the wrong section, or misspelt at the end of a long path.
        last = {other.rpartition(".")[2].rpartition("__")[2]: other for other in reversed(names)}
        part = name.rpartition(".")[2].rpartition("__")[2]
        found = [last[match] for match in difflib.get_close_matches(part, last, n=1, cutoff=0.6)]
    if not found:
        found = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {found[0]}?" if found else ""


def dotted(path: Path_) -> str:
    """``("server", "users", 0, "name")`` → ``server.users[0].name``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _strings(path: Path_) -> tuple[str, ...]:
    return tuple(step for step in path if isinstance(step, str))


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for step in path[:-1]:
        values = values.setdefault(step, {})
    values[path[-1]] = value
