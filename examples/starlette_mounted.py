"""
A Starlette application with a part of it, mounted below /assistant, that calls models.

    RELAY_CONFIG=config/relay.yaml uvicorn --factory examples.starlette_mounted:create_app

Mounted applications get no lifespan: the relay opens at the first request. OpenAI's API is at
/assistant/v1. Who is asking is said by a Relay key, sent with the customer's header.
"""

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from relay_middleware import Relay, RelayMiddleware


async def home(_: Request) -> PlainTextResponse:
    """A page that knows nothing of models."""
    return PlainTextResponse("home")


async def answer(request: Request) -> PlainTextResponse:
    """Answer the question in the query."""
    question = request.query_params["question"]
    return PlainTextResponse(await request.state.relay.text("Be brief.", question))


def create_app(relay: Relay | None = None) -> Starlette:
    """Wire the application."""
    relay = relay or Relay.from_config(os.environ.get("RELAY_CONFIG", "config/relay.yaml"))
    assistant = Starlette(routes=[Route("/answer", answer)])
    assistant.add_middleware(RelayMiddleware, relay=relay)
    return Starlette(routes=[Route("/", home), Mount("/assistant", assistant)])
