"""
Spend stores, each in its turn.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fixtures.spend import SCRIPTS, Subject, local_store, redis_store

from relay_middleware.ports.stores import SpendStore


@pytest.fixture(name="subject", params=["local", *SCRIPTS])
async def _subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """
    Every implementation, one at a time.
    """
    async with AsyncExitStack() as stack:
        if request.param == "local":
            yield await stack.enter_async_context(local_store(tmp_path))
        else:
            url = request.getfixturevalue("redis_url")
            yield await stack.enter_async_context(redis_store(url, way=request.param))


@pytest.fixture(name="spend")
def _spend(subject: Subject) -> SpendStore:
    """
    The store of `subject`.
    """
    return subject.store
