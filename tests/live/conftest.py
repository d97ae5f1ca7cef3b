"""A MariaDB server for worlds of virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from inline_server import Server, mariadb


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    with mariadb() as server:
        yield server


@pytest.fixture
def server(_server: Server) -> Iterator[Server]:
    """Empty databases on the server; see `Server.open`."""
    _server.fresh()
    yield _server
