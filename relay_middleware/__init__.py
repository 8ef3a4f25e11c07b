"""
Relay: spend limits, attribution and routing for LLM traffic, in front of any ASGI application.

A name is imported when it is asked for: who needs one module of Relay, as the command line does,
does not wait for the OpenAI client and all else that serving needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay_middleware.calls import CustomerCalls
    from relay_middleware.config import Config, load_config
    from relay_middleware.errors import (
        ConfigurationError,
        CustomerRequiredError,
        RefusedError,
        RelayError,
    )
    from relay_middleware.middleware import RelayMiddleware
    from relay_middleware.relay import Relay

__all__ = [
    "Config",
    "ConfigurationError",
    "CustomerCalls",
    "CustomerRequiredError",
    "RefusedError",
    "Relay",
    "RelayError",
    "RelayMiddleware",
    "load_config",
]

_MODULE_BY_NAME = {
    "Config": "config",
    "ConfigurationError": "errors",
    "CustomerCalls": "calls",
    "CustomerRequiredError": "errors",
    "RefusedError": "errors",
    "Relay": "relay",
    "RelayError": "errors",
    "RelayMiddleware": "middleware",
    "load_config": "config",
}


if not TYPE_CHECKING:
    # Not for type checkers: they would take any name for one that there is.
    def __getattr__(name: str) -> object:
        """Import a public name."""
        if name not in _MODULE_BY_NAME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULE_BY_NAME[name]}"), name)
