"""What the tests of the site put in the place of a store."""

from __future__ import annotations

from typing import Any


class NoFiles:
    """A store that nobody asks for."""

    def condensed(self, _: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError

    def listed(self, _: dict[str, Any], number: int, offset: int, limit: int) -> dict[str, Any]:
        raise AssertionError
