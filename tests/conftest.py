"""
Fixtures for all tests.
"""

import pytest
from fixtures.databases import _database, _database_url, _postgres_server, _postgres_url
from fixtures.redis_server import _redis_server, _redis_url

__all__ = [
    "_database",
    "_database_url",
    "_postgres_server",
    "_postgres_url",
    "_redis_server",
    "_redis_url",
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """
    Relay runs on asyncio: aiohttp and redis-py do.
    """
    return "asyncio"
