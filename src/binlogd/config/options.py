"""What an option is, and how a table of them is read: the little that the model (model.py) is written in.

A table is a frozen dataclass whose fields are made by ``option``, ``one_of``, ``options``, ``table`` and ``tables``.
Each carries how its value is read from what stands in a file, what it is when nothing stands there, and what to tell
people.
Reading checks as well: a reader takes the raw value (TOML's types, or the text of an environment variable) and gives
what the core takes, or raises ``ValueError`` whose text goes on where "key = value: " ends and does not repeat the
value, since only the caller knows whether it may be shown.

Every process begins with the configuration, so this imports next to nothing: a general library for the same took a
third of the receiver's start and of its memory.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

Path_ = tuple[str | int, ...]


class Fault(ValueError):
    """What is wrong with one value: ``path`` leads to it from where the reading began."""

    def __init__(self, path: Path_, text: str) -> None:
        super().__init__(text)
        self.path = path
        self.text = text


@dataclass(frozen=True, slots=True)
class Option:
    """One key: ``read`` its value; ``default`` and ``example`` as they would stand in a file, None for none."""

    read: Callable[[Any], Any]
    description: str
    default: Any = None
    example: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()
    many: bool = False  # a list
    table: type[Section] | None = None


def _field(made: Option) -> Any:
    metadata = {"option": made}
    if made.required:
        return dataclasses.field(metadata=metadata)
    value = None if made.default is None else made.read(made.default)
    return dataclasses.field(default=value, metadata=metadata)


def option(
    read: Callable[[Any], Any],
    description: str,
    *,
    default: Any = None,
    example: Any = None,
    required: bool = False,
) -> Any:
    """A field with one value; without a ``default`` it is None when it is absent."""
    return _field(Option(read, description, default, example, required))


def one_of(kind: type[enum.StrEnum], description: str, *, default: str) -> Any:
    """A field with one of the values of an enum."""

    def read(value: Any) -> enum.StrEnum:
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(kind)}") from None

    return _field(Option(read, description, default, choices=tuple(kind)))


def options(read: Callable[[Any], Any], description: str, *, default: Any = None, example: Any = None) -> Any:
    """A field with a list of values, each read by ``read``, as a tuple."""
    return _field(Option(listed(read), description, default, example, many=True))


def table(section: type[Section], description: str) -> Any:
    """A field that is a table of its own, all defaults when it is absent."""
    return _field(Option(section.read, description, {}, table=section))


def tables(section: type[Section], description: str) -> Any:
    """A field with any number of tables of one kind, as a tuple."""
    return _field(Option(listed(section.read), description, [], many=True, table=section))


def listed(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A reader of lists from one of their items."""

    def read_all(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list | tuple):
            raise ValueError("must be a list, in brackets")
        return tuple(_read(read, value, index) for index, value in enumerate(values))

    return read_all


def _read(read: Callable[[Any], Any], value: Any, step: str | int) -> Any:
    """``value``, which is at ``step`` of what is being read."""
    try:
        return read(value)
    except Fault as fault:
        raise Fault((step, *fault.path), fault.text) from None
    except ValueError as bad:
        raise Fault((step,), str(bad)) from None


class Section:
    """A table of the configuration. Subclasses are frozen dataclasses of options; ``__post_init__`` checks them."""

    @classmethod
    def read(cls, values: Any) -> Self:
        """The table that ``values`` describes; ``Fault`` for the first thing that is wrong. None is not given."""
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            raise ValueError("must be a table")
        given = cls.prepare({name: value for name, value in values.items() if value is not None})
        known = cls.options()
        for name in given:
            if name not in known:
                raise Fault((name,), "is no known key")
        found = {}
        for name, one in known.items():
            if name in given:
                found[name] = _read(one.read, given[name], name)
            elif one.required:
                raise Fault((name,), "is missing")
        return cls(**found)

    @classmethod
    def prepare(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What is read instead of ``given``."""
        return given

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Every key of this table, in order."""
        return {field.name: field.metadata["option"] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the configuration: its place, and what the model says of it."""

    path: tuple[str, ...]  # ("source", "hosts"); the keys of a user are ("server", "users", "name")
    option: Option

    @property
    def dotted(self) -> str:
        """The key as messages name it: ``source.hosts``."""
        return ".".join(self.path)

    @property
    def table(self) -> type[Section] | None:
        """The model of the table, or of each repeated table, under this key."""
        return self.option.table

    @property
    def repeated(self) -> bool:
        """Whether it is ``[[a.table]]``."""
        return self.option.many and self.option.table is not None


def walk(root: type[Section], above: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key of ``root`` in the order of the model, each table followed by what it holds."""
    for name, one in root.options().items():
        path = (*above, name)
        yield Key(path, one)
        if one.table is not None:
            yield from walk(one.table, path)
