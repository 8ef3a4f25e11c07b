"""
What of a client's body a translated provider is told.
"""

import pytest

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints import chat, embeddings
from relay_middleware.core.endpoints.endpoint import Endpoint
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.ports.providers import UpstreamCall
from relay_middleware.upstream.parameters import cap_name_of, to_arguments

DEPLOYMENT = Deployment(
    deployment_id=DeploymentId("smart#1"),
    model="smart",
    provider="anthropic",
    deployment_model="claude",
    api_base=None,
    api_key=None,
)
MESSAGES = [{"role": "user", "content": "Hi"}]
SUPPORTED = ("tools", "max_tokens", "temperature", "stream")


def call(
    body: dict[str, object],
    *,
    endpoint: Endpoint = chat.ENDPOINT,
    cap: int | None = None,
    is_stream: bool = False,
) -> UpstreamCall:
    return UpstreamCall(
        endpoint=endpoint, model="smart", body=body, is_stream=is_stream, output_cap_tokens=cap
    )


def test_what_both_name_is_passed_on() -> None:
    """
    A member passes when the endpoint names it and the provider takes it; the rest is told by name.
    """
    body = {"messages": MESSAGES, "temperature": 0.5, "seed": 1, "timeout": 9, "metadata": {"a": 1}}

    arguments = to_arguments(call(body), DEPLOYMENT, supported=SUPPORTED)

    assert arguments.keywords == {"messages": MESSAGES, "temperature": 0.5}
    assert arguments.dropped == ("metadata", "seed", "timeout")


@pytest.mark.parametrize("name", ["timeout", "metadata", "caching", "base_model", "logger_fn"])
def test_what_the_provider_takes_is_not_enough(name: str) -> None:
    """
    A member that the endpoint does not name stays out, even where LiteLLM would take it.
    """
    body = {"messages": MESSAGES, name: "x"}

    arguments = to_arguments(call(body), DEPLOYMENT, supported=(*SUPPORTED, name))

    assert name not in arguments.keywords


def test_one_answer_and_nulls_are_not_missed() -> None:
    """
    `n` of 1 and a null say nothing that could be lost; `n` of 2 does.
    """
    one = to_arguments(call({"messages": MESSAGES, "n": 1, "seed": None}), DEPLOYMENT, supported=())
    two = to_arguments(call({"messages": MESSAGES, "n": 2}), DEPLOYMENT, supported=())

    assert (one.dropped, two.dropped) == ((), ("n",))


@pytest.mark.parametrize(
    ("supported", "expected"),
    [
        (("max_tokens",), {"max_tokens": 7}),
        (("max_completion_tokens", "max_tokens"), {"max_completion_tokens": 7}),
        ((), {}),
    ],
    ids=str,
)
def test_the_cap_has_the_providers_name(
    supported: tuple[str, ...], expected: dict[str, int]
) -> None:
    """
    The cap that admission decided is told once, whatever the client called its own.
    """
    body = {"messages": MESSAGES, "max_tokens": 9, "max_completion_tokens": 8}

    arguments = to_arguments(call(body, cap=7), DEPLOYMENT, supported=supported)

    assert arguments.keywords == {"messages": MESSAGES, **expected}
    assert arguments.dropped == ()
    assert cap_name_of(supported) == next(iter(expected), None)


def test_a_stream_always_reports_its_usage() -> None:
    """
    Usage is asked for whether or not the client asked.
    """
    body = {"messages": MESSAGES, "stream": True, "stream_options": {"include_usage": False}}

    arguments = to_arguments(call(body, is_stream=True), DEPLOYMENT, supported=SUPPORTED)

    assert arguments.keywords["stream_options"] == {"include_usage": True}
    assert arguments.keywords["stream"] is True


def test_names_that_no_header_holds_are_not_told() -> None:
    """
    A name with a line end in it does not become part of a header; at most 20 names do.
    """
    body = {"messages": MESSAGES, "a\r\nx-evil": 1} | {f"p{i:02}": 1 for i in range(30)}

    dropped = to_arguments(call(body), DEPLOYMENT, supported=()).dropped

    assert dropped == tuple(f"p{i:02}" for i in range(20))


def test_embeddings_name_their_own() -> None:
    """
    Input and dimensions pass; the encoding is made here and not missed.
    """
    body = {"input": ["a"], "dimensions": 3, "encoding_format": "base64"}

    arguments = to_arguments(
        call(body, endpoint=embeddings.ENDPOINT), DEPLOYMENT, supported=("dimensions",)
    )

    assert (arguments.keywords, arguments.dropped) == ({"input": ["a"], "dimensions": 3}, ())
