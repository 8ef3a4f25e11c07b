"""
A Starlette application with an API of its own below /v1: Relay's is at /relay/v1.

    RELAY_CONFIG=config/relay.yaml uvicorn --factory examples.host_with_v1:create_app

It stands behind a gateway that has authenticated everyone, and that sets the customer's header
itself: so the header is believed, with `trust_header`.
"""

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from relay_middleware import RefusedError, Relay, RelayMiddleware


async def list_models(_: Request) -> JSONResponse:
    """The application's own models: cars, not language models."""
    return JSONResponse(["roadster", "estate"])


async def compare(request: Request) -> JSONResponse:
    """Ask two questions at once; a refusal of either becomes the response."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(request.state.relay.text("Describe this car.", car))
            for car in ("roadster", "estate")
        ]
    return JSONResponse([task.result() for task in tasks])


async def describe(request: Request) -> JSONResponse:
    """Ask, and do without an answer where the customer has no money left."""
    car = request.path_params["car"]
    try:
        text = await request.state.relay.text("Describe this car.", car)
    except RefusedError as error:
        return JSONResponse({"text": None, "why": error.refusal.code})
    return JSONResponse({"text": text})


def create_app(relay: Relay | None = None) -> Starlette:
    """Wire the application."""
    relay = relay or Relay.from_config(os.environ.get("RELAY_CONFIG", "config/relay.yaml"))
    app = Starlette(
        routes=[
            Route("/v1/models", list_models),
            Route("/v1/comparison", compare),
            Route("/v1/models/{car}", describe),
        ]
    )
    app.add_middleware(RelayMiddleware, relay=relay, prefix="/relay/v1", trust_header=True)
    return app
