"""
The application that `relay serve` serves: Relay, and what a load balancer asks.
"""

from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from proxy_app.metrics import CONTENT_TYPE, exposition
from relay_middleware.config import Config
from relay_middleware.core import refusals
from relay_middleware.middleware import RelayMiddleware
from relay_middleware.relay import Relay


def create_app(relay: Relay, config: Config) -> ASGIApp:
    """
    Wire the application around *relay*, which it opens and closes with its lifespan.
    """

    async def readyz(_: Request) -> JSONResponse:
        # A failing provider is no reason to take this process out of service, nor is a Redis that
        # is away: others fail alike, and whom `on_outage` lets in is served.
        if not relay.is_ready:
            return _starting()
        enforcement = "ok" if relay.is_enforcing else "away"
        return JSONResponse({"status": "ready", "enforcement": enforcement})

    async def metrics(_: Request) -> Response:
        if not relay.is_ready:
            return _starting()
        return Response(exposition(await relay.vitals()), media_type=CONTENT_TYPE)

    app: ASGIApp = Starlette(
        routes=[
            Route("/healthz", _healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ],
        exception_handlers={HTTPException: _in_envelope},
    )
    app = RelayMiddleware(app, relay=relay, is_outermost=True)
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


def _starting() -> JSONResponse:
    return JSONResponse({"status": "starting"}, status_code=503)


async def _healthz(_: Request) -> JSONResponse:
    return JSONResponse({"status": "alive"})


async def _in_envelope(request: Request, error: Exception) -> JSONResponse:
    method, path = request.method, request.url.path
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        refusal = refusals.method_not_allowed(method, path, "GET")
    else:
        refusal = refusals.unknown_path(method, path, "OpenAI's API is below /v1")
    return JSONResponse(refusal.envelope(), refusal.status_code, dict(refusal.headers))
