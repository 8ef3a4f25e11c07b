"""
Fixtures for all tests.
"""

import pytest
from fixtures.redis_server import _redis_server, _redis_url

__all__ = ["_redis_server", "_redis_url"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """
    Relay runs on asyncio: aiohttp and redis-py do.
    """
    return "asyncio"
