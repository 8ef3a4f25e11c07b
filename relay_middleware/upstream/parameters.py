"""
From a client's body to the keyword arguments of a translated call.

Only what an endpoint names becomes an argument (DESIGN 7): everything else in the body is dropped,
and the client is told its name.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import orjson

from relay_middleware.core.deployments import Deployment
from relay_middleware.ports.providers import UpstreamCall
from relay_middleware.upstream.dialects import output_cap_at

_CAPS = ("max_completion_tokens", "max_tokens")
"""Members that cap the output, the one to be preferred first."""

_HANDLED = frozenset({"model", "stream", "stream_options", "encoding_format", *_CAPS})
"""Members that are not passed on as they are, and not lost either."""

_INPUTS = frozenset({"messages", "input"})
"""What every provider takes, and LiteLLM therefore does not list."""

_DEFAULTS = {"n": 1}

# A name goes back to the client in a header, and may hold anything until it is looked at.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MAX_NAMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """
    What a translated call gets of a client's body.

    Attributes:
        keywords: By LiteLLM's names; never a route or a credential.
        dropped: Names of members that the provider is not told, sorted.
    """

    keywords: Mapping[str, object]
    dropped: tuple[str, ...]

    def without(self, *names: str) -> "Arguments":
        """Return the same without the keywords *names*, which are told as dropped."""
        lost = self.keywords.keys() & set(names)
        kept = {name: value for name, value in self.keywords.items() if name not in lost}
        dropped = tuple(sorted({*self.dropped, *lost}))
        return replace(self, keywords=kept, dropped=dropped)

    def having(self, name: str, value: object, *, instead_of: Collection[str]) -> "Arguments":
        """Return the same with the keyword *name* in place of others."""
        kept = {key: given for key, given in self.keywords.items() if key not in instead_of}
        return replace(self, keywords={**kept, name: value})


def to_arguments(
    call: UpstreamCall, deployment: Deployment, *, supported: Collection[str]
) -> Arguments:
    """
    Choose what *deployment* is told of *call*.

    Args:
        supported: Names of the parameters that the provider's model takes.
    """
    accepted = (call.endpoint.parameters & set(supported) - _HANDLED) | (
        call.endpoint.parameters & _INPUTS
    )
    # A copy: LiteLLM writes into what it is given, and the next deployment gets the client's body.
    keywords: dict[str, object] = orjson.loads(
        orjson.dumps({name: value for name, value in call.body.items() if name in accepted})
    )
    cap_name = cap_name_of(supported)
    cap = call.output_cap_tokens
    if cap is not None and cap_name is not None:
        keywords[cap_name] = output_cap_at(deployment, cap)
    if call.is_stream:
        keywords |= {"stream": True, "stream_options": {"include_usage": True}}
    # A null says nothing, and one answer is what every provider gives.
    given = {name for name, value in call.body.items() if value not in (None, _DEFAULTS.get(name))}
    dropped = sorted(name for name in given - accepted - _HANDLED if _NAME.fullmatch(name))
    return Arguments(keywords=keywords, dropped=tuple(dropped[:_MAX_NAMES]))


def cap_of(keywords: Mapping[str, object]) -> int | None:
    """Return the output cap that *keywords* have, or None."""
    caps = [value for name in _CAPS if isinstance(value := keywords.get(name), int)]
    return min(caps, default=None)


def cap_name_of(supported: Collection[str]) -> str | None:
    """Return the parameter that caps the output; None where the provider has none."""
    return next((name for name in _CAPS if name in supported), None)
