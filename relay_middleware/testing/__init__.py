"""
Simulated providers, for tests of programs that use Relay, for the demo and for benchmarks.

Clearly not real models: every text says so. See `simulator` for the whole, `behaviour` for how they
fail and `usage` for how they count.
"""

from relay_middleware.testing.behaviour import FAKE_HOST, FAKE_KEY, Behaviour, BehaviourError
from relay_middleware.testing.calls import RecordedCall
from relay_middleware.testing.playing import CannotCutError
from relay_middleware.testing.server import NotLoopbackError
from relay_middleware.testing.simulator import DEFAULT_PROFILE, Simulator
from relay_middleware.testing.text import simulated_text, tokens_of

__all__ = [
    "DEFAULT_PROFILE",
    "FAKE_HOST",
    "FAKE_KEY",
    "Behaviour",
    "BehaviourError",
    "CannotCutError",
    "NotLoopbackError",
    "RecordedCall",
    "Simulator",
    "simulated_text",
    "tokens_of",
]
