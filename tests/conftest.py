"""
Fixtures for all tests.
"""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """
    Relay runs on asyncio: aiohttp and redis-py do.
    """
    return "asyncio"
