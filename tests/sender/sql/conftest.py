from __future__ import annotations

import pytest

from .support import Client


@pytest.fixture
def client() -> Client:
    """A connection of a user with the replica role."""
    return Client()
