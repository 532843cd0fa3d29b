"""Fixtures of the receiver's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.receiver import support


@pytest.fixture
def closing() -> Iterator[None]:
    """Close the streams that the test made."""
    yield
    while support.MADE:
        support.MADE.pop().close()
