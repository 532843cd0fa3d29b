"""Addresses that cannot be had: exit code 2, and which option chooses another."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import the_error
from tests.e2e_errors.support import NOWHERE, ended, written


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("mode", ["run", "serve"])
def test_the_listeners(tmp_path: Path, taken: str, mode: str) -> None:
    error = the_error(ended(mode, NOWHERE, tmp_path / "data", "--listen", taken), 2)
    assert error == (
        f"binlogd: cannot listen on {taken}: another process has it"
        " — stop that process, or choose another address with --listen or server.listen"
    )
    assert written(tmp_path / "data") == {}


def test_the_pages(tmp_path: Path, taken: str) -> None:
    """Found out before anything is made or started."""
    result = ended("run", NOWHERE, tmp_path / "data", "--http", taken)
    assert the_error(result, 2) == (
        f"binlogd: cannot listen on {taken}: another process has it"
        " — stop that process, or choose another address with --http or http.listen"
    )
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    error = the_error(ended("serve", NOWHERE, tmp_path / "data", "--listen", "192.0.2.1:3307"), 2)
    assert "cannot listen on 192.0.2.1:3307: Cannot assign requested address" in error


def test_a_name_that_is_none(tmp_path: Path) -> None:
    error = the_error(ended("serve", NOWHERE, tmp_path / "data", "--listen", "no-such-host.invalid:3307"), 2)
    assert "cannot listen on no-such-host.invalid:3307" in error
    assert "server.listen" in error
