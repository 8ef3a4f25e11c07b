"""
Simulated providers, and plain HTTP to them.
"""

from collections.abc import Iterator

import httpx
import pytest

from relay_middleware.testing import Simulator


@pytest.fixture(name="simulator", scope="module")
def _simulator() -> Simulator:
    """
    One for all tests of a module; each uses a profile of its own.
    """
    return Simulator()


@pytest.fixture(name="url", scope="module")
def _url(simulator: Simulator) -> Iterator[str]:
    """
    Where it listens.
    """
    with simulator.run_in_thread() as url:
        yield url


@pytest.fixture(name="client")
def _client(url: str) -> Iterator[httpx.Client]:
    """
    A client with a key.
    """
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer sk-test-1234"}) as client:
        yield client
