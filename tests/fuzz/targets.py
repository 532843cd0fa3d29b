"""The targets by name, and what their inputs begin with."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, cast

TARGETS = ("listener", "source", "stream", "events", "gtids", "configuration", "sql", "listing", "dump")

HERE = Path(__file__).parent
KEPT = HERE / "captures"  # a handful of recordings that are in the repository
FINDINGS = HERE / "findings"  # what once went wrong, by target


class Target(Protocol):
    """A target's module."""

    run: Callable[[bytes], None]
    seeds: Callable[[dict[str, bytes]], Iterator[bytes]]


def load(name: str) -> Target:
    """The module of a target."""
    return cast(Target, importlib.import_module(f"tests.fuzz.{name}"))


def recordings(folder: Path) -> dict[str, bytes]:
    """Recorded streams by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*-*"))}


def inputs(name: str, *folders: Path) -> list[bytes]:
    """A target's seeds from all recordings in the folders, and what was ever found; each once."""
    found = dict.fromkeys(path.read_bytes() for path in sorted((FINDINGS / name).glob("*")))
    for folder in folders:
        found |= dict.fromkeys(load(name).seeds(recordings(folder)))
    return list(found)
