"""
The application that `relay serve` serves: Relay, and what a load balancer asks.
"""

import os
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from proxy_app.observability import configure_logging
from relay_middleware.config import Config, load_config
from relay_middleware.core import refusals
from relay_middleware.middleware import RelayMiddleware
from relay_middleware.relay import Relay

CONFIG_VARIABLE = "RELAY_CONFIG"
"""Names the configuration file, to the command line and to its worker processes."""


def create_app(relay: Relay, config: Config) -> ASGIApp:
    """
    Wire the application around *relay*, which it opens and closes with its lifespan.
    """

    async def readyz(_: Request) -> JSONResponse:
        # A failing provider is no reason to take this process out of service: others fail alike.
        if relay.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "starting"}, status_code=503)

    app: ASGIApp = Starlette(
        routes=[Route("/healthz", _healthz), Route("/readyz", readyz)],
        exception_handlers={HTTPException: _in_envelope},
    )
    app = RelayMiddleware(app, relay=relay)
    if config.cors_origins:
        # Outermost: a preflight carries no key. Without credentials `*` exposes every header.
        app = CORSMiddleware(
            app,
            allow_origins=config.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
    return app


def create_worker_app() -> ASGIApp:
    """
    Make the application in a worker process: the file is named by `RELAY_CONFIG`.

    Raises:
        ConfigurationError: The configuration is wrong.
    """
    configure_logging(is_readable=False)
    config = load_config(os.environ[CONFIG_VARIABLE])
    return create_app(Relay.from_config(config), config)


async def _healthz(_: Request) -> JSONResponse:
    return JSONResponse({"status": "alive"})


async def _in_envelope(request: Request, error: Exception) -> JSONResponse:
    method, path = request.method, request.url.path
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        refusal = refusals.method_not_allowed(method, path, "GET")
    else:
        refusal = refusals.unknown_path(method, path, "OpenAI's API is below /v1")
    return JSONResponse(refusal.envelope(), refusal.status_code, dict(refusal.headers))
