"""binlogd.config.options: reading a table, with one of its own making."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import pytest

from binlogd.config import options
from binlogd.config.options import Fault, Section, one_of, option, table, tables, walk


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


def even(value: Any) -> int:
    if value % 2:
        raise ValueError("must be even")
    return int(value)


@dataclass(frozen=True, slots=True)
class Leaf(Section):
    size: int = option(even, "How large.", required=True)
    colour: Colour = one_of(Colour, "Which colour.", default="red")  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.size > 100:
            raise Fault(("size",), "is too large for a leaf")


@dataclass(frozen=True, slots=True)
class Tree(Section):
    height: int | None = option(even, "How high.", example=8)
    rings: tuple[int, ...] = options.options(even, "How wide, by year.", default=[2, 4])
    leaves: tuple[Leaf, ...] = tables(Leaf, "What is on it.")

    @classmethod
    def prepare(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"height": 2 * given["half"]} if "half" in given else given


@dataclass(frozen=True, slots=True)
class Garden(Section):
    tree: Tree = table(Tree, "The only tree.")  # noqa: RUF009


def fault(values: Any) -> tuple[options.Path_, str]:
    with pytest.raises(Fault) as caught:
        Garden.read(values)
    assert str(caught.value) == caught.value.text
    return caught.value.path, caught.value.text


def test_nothing_given_is_all_defaults() -> None:
    assert Garden.read({}) == Garden.read({"tree": {}}) == Garden() == Garden(Tree(None, (2, 4), ()))


def test_what_is_given_is_read() -> None:
    garden = Garden.read({"tree": {"height": 6, "rings": [], "leaves": [{"size": 4, "colour": "blue"}, {"size": 2}]}})
    assert garden.tree == Tree(6, (), (Leaf(4, Colour.BLUE), Leaf(2, Colour.RED)))


def test_none_is_not_given_and_what_was_read_is_taken_as_it_is() -> None:
    assert Garden.read({"tree": {"height": None, "leaves": None}}) == Garden()
    assert Garden.read({"tree": Tree(4)}).tree == Tree(4)


def test_a_table_may_prepare_what_it_is_given() -> None:
    assert Garden.read({"tree": {"half": 3}}).tree.height == 6


@pytest.mark.parametrize(
    ("tree", "path", "text"),
    [
        ({"height": 3}, ("height",), "must be even"),
        ({"rings": [2, 3]}, ("rings", 1), "must be even"),
        ({"rings": 2}, ("rings",), "must be a list, in brackets"),
        ({"leaves": [{"size": 2}, {"colour": "red"}]}, ("leaves", 1, "size"), "is missing"),
        ({"leaves": [{"size": 2, "colour": "green"}]}, ("leaves", 0, "colour"), "must be one of red, blue"),
        ({"leaves": [{"size": 102}]}, ("leaves", 0, "size"), "is too large for a leaf"),
        ({"leaves": [7]}, ("leaves", 0), "must be a table"),
        ({"fruit": 1}, ("fruit",), "is no known key"),
        (5, (), "must be a table"),
    ],
)
def test_a_fault_says_where_it_is(tree: Any, path: options.Path_, text: str) -> None:
    assert fault({"tree": tree}) == (("tree", *path), text)


def test_every_key_in_its_order() -> None:
    keys = {key.dotted: key for key in walk(Garden)}
    assert list(keys) == ["tree", "tree.height", "tree.rings", "tree.leaves", "tree.leaves.size", "tree.leaves.colour"]
    assert [name for name, key in keys.items() if key.repeated] == ["tree.leaves"]
    assert [name for name, key in keys.items() if key.option.many] == ["tree.rings", "tree.leaves"]
    assert (keys["tree"].table, keys["tree.leaves"].table, keys["tree.height"].table) == (Tree, Leaf, None)
    assert keys["tree.leaves.colour"].option.choices == ("red", "blue")
    assert keys["tree.height"].option.example == 8
