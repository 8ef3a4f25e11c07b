"""
Relay: spend limits, attribution and routing for LLM traffic, in front of any ASGI application.
"""

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
