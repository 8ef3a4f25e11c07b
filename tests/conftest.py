"""
Fixtures for all tests.
"""

import sys
from collections.abc import Iterator

import pytest
import structlog
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


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """
    What a test configures of structlog ends with it, loggers that have cached it included.
    """
    yield
    structlog.reset_defaults()
    # Copied at once: what is collected meanwhile may import something.
    for name, module in sys.modules.copy().items():
        if name.startswith(("relay_middleware", "proxy_app")) and hasattr(module, "log"):
            vars(module.log).pop("bind", None)
