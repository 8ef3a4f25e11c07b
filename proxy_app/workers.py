"""
A worker process of `relay serve --workers N`.

uvicorn takes a worker that does not start for a mistake that would come again, and ends the whole
server. The supervisor has tried the configuration out before there was any worker (`serving.py`),
so in a worker a store that is away is an outage: it waits, while the others serve whom they can.
"""

import asyncio
import os
import signal
from types import FrameType

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy_app.app import create_app
from proxy_app.memory import keep_what_is_there
from proxy_app.observability import configure_logging
from relay_middleware.config import load_config
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.relay import Relay

log = structlog.get_logger("relay")

CONFIG_VARIABLE = "RELAY_CONFIG"
"""Names the configuration file, to the command line and to its worker processes."""

RETRY_S = 0.5


def create_worker_app() -> ASGIApp:
    """
    Make the application in a worker process: the file is named by `RELAY_CONFIG`.

    Raises:
        ConfigurationError: The configuration is wrong.
    """
    configure_logging(is_readable=False)
    config = load_config(os.environ[CONFIG_VARIABLE])
    relay = Relay.from_config(config)
    app = create_app(relay, config)

    async def worker(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _wait_for_stores(relay)
            keep_what_is_there()
        await app(scope, receive, send)

    return worker


async def _wait_for_stores(relay: Relay) -> None:
    """Open *relay* as soon as its stores are there; give up when told to end."""
    is_told_to_end = False
    handler = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal is_told_to_end
        is_told_to_end = True
        if callable(handler):
            handler(number, frame)

    signal.signal(signal.SIGTERM, note)
    try:
        is_said = False
        while not is_told_to_end:
            try:
                await relay.start()
            except StoreUnavailableError as error:
                if not is_said:
                    log.warning("worker_waits", reason=str(error))
                is_said = True
                await asyncio.sleep(RETRY_S)
            else:
                return
    finally:
        signal.signal(signal.SIGTERM, handler)
