"""
Dialects: what is changed in a client's body, and what is not.
"""

from collections.abc import Mapping

import pytest

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints import chat
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.price_entries import from_litellm_entry
from relay_middleware.core.pricing import ModelPrice
from relay_middleware.ports.providers import UpstreamCall
from relay_middleware.upstream.dialects import (
    dialect_of,
    is_direct,
    is_openais,
    outgoing_body,
    url_of,
)


def deployment(
    provider: str = "openai",
    *,
    api_base: str | None = None,
    price: ModelPrice | None = None,
    model: str = "gpt-a",
) -> Deployment:
    """A deployment of *model* there."""
    return Deployment(
        deployment_id=DeploymentId("one"),
        model="smart",
        provider=provider,
        deployment_model=model,
        api_base=api_base,
        api_key="sk-1",
        price=price,
    )


def call(
    body: Mapping[str, object], *, cap: int | None = None, is_stream: bool = False
) -> UpstreamCall:
    """A request for `smart` with these members."""
    return UpstreamCall(
        endpoint=chat.ENDPOINT,
        model="smart",
        body={"model": "smart", **body},
        is_stream=is_stream,
        output_cap_tokens=cap,
    )


def test_all_else_goes_out_as_it_came() -> None:
    """
    Only the model's name is another; members that nobody here knows stay, in their order.
    """
    sent = outgoing_body(call({"messages": [1], "unheard_of": {"a": [None]}, "n": 2}), deployment())

    assert list(sent.items()) == [
        ("model", "gpt-a"),
        ("messages", [1]),
        ("unheard_of", {"a": [None]}),
        ("n", 2),
    ]


@pytest.mark.parametrize(
    ("provider", "api_base", "field"),
    [
        ("openai", None, "max_completion_tokens"),
        ("openai", "http://127.0.0.1:1/v1", "max_tokens"),
        ("xai", None, "max_completion_tokens"),
        ("xai", "http://127.0.0.1:1/v1", "max_completion_tokens"),
        ("groq", None, "max_tokens"),
        ("cerebras", None, "max_completion_tokens"),
        ("hosted_vllm", "http://127.0.0.1:1/v1", "max_tokens"),
    ],
)
def test_the_cap_has_the_name_that_the_server_knows(
    provider: str, api_base: str | None, field: str
) -> None:
    """
    Where the client named no cap, it is written under the dialect's name.
    """
    sent = outgoing_body(call({}, cap=100), deployment(provider, api_base=api_base))

    assert sent == {"model": "gpt-a", field: 100}


@pytest.mark.parametrize(
    "named",
    [
        {"max_tokens": 500},
        {"max_completion_tokens": 500},
        {"max_tokens": 500, "max_completion_tokens": 700},
        {"max_tokens": None},
    ],
)
def test_the_cap_keeps_the_clients_name(named: dict[str, object]) -> None:
    """
    What the client called it, it stays; two caps are both lowered.
    """
    sent = outgoing_body(call(named, cap=100), deployment())

    assert sent == {"model": "gpt-a", **dict.fromkeys(named, 100)}


@pytest.mark.parametrize("model", ["llama3.1:8b", "openai/gpt-oss-20b", "qwen3"])
@pytest.mark.parametrize(
    "named", [("max_completion_tokens",), ("max_tokens", "max_completion_tokens")], ids=str
)
def test_a_cap_that_would_be_ignored_is_called_otherwise(
    model: str, named: tuple[str, ...]
) -> None:
    """
    Servers that only look like OpenAI's may take no notice of its newer name: they get the old one.
    """
    request = call(dict.fromkeys(named, 500), cap=100)

    sent = outgoing_body(request, deployment(api_base="http://127.0.0.1:1/v1", model=model))

    assert sent == {"model": model, "max_tokens": 100}


@pytest.mark.parametrize("model", ["gpt-5.4", "openai/gpt-4o", "o3-mini", "ft:gpt-4o:us::1"])
def test_a_gateway_to_openais_models(model: str) -> None:
    """
    OpenAI's own models know the newer name wherever they are served, and some refuse the older.
    """
    request = call({"max_completion_tokens": 500}, cap=100)

    sent = outgoing_body(request, deployment(api_base="http://127.0.0.1:1/v1", model=model))

    assert sent == {"model": model, "max_completion_tokens": 100}


def test_without_a_cap_its_name_stays() -> None:
    """
    Where nothing is capped, nothing is renamed.
    """
    local = deployment(api_base="http://127.0.0.1:1/v1", model="qwen3")

    assert outgoing_body(call({"max_completion_tokens": None}), local) == {
        "model": "qwen3",
        "max_completion_tokens": None,
    }


@pytest.mark.parametrize(
    ("provider", "api_base", "alike", "is_own"),
    [
        ("openai", "https://api.openai.com/v1", "openai", True),
        ("openai", "https://eu.api.openai.com/v1", "openai", True),
        ("openai", "https://api.x.ai/v1", "xai", False),
        ("openai", "https://us-west-1.api.x.ai/v1", "xai", False),
        ("openai", "https://api.groq.com/openai/v1/", "groq", False),
        ("xai", "https://api.openai.com/v1", "xai", False),
    ],
)
def test_an_address_says_who_it_is(
    provider: str, api_base: str, alike: str, *, is_own: bool
) -> None:
    """
    `openai/` with the address of a provider that has a dialect speaks that provider's.
    """
    there = deployment(provider, api_base=api_base)

    assert dialect_of(there) is dialect_of(deployment(alike))
    assert is_openais(there) is is_own


def test_who_is_not_openai() -> None:
    """
    A server with an address of its own is none, and nor is another company.
    """
    assert is_openais(deployment())
    assert not is_openais(deployment(api_base="http://127.0.0.1:1/v1"))
    assert not is_openais(deployment("anthropic"))


@pytest.mark.parametrize(("cap", "written"), [(100, 100), (5000, 4096)])
def test_the_cap_is_the_models_at_most(cap: int, written: int) -> None:
    """
    A model that gives 4,096 tokens at most is not asked for more.
    """
    price = from_litellm_entry(
        {"input_cost_per_token": 0, "output_cost_per_token": 0, "max_output_tokens": 4096}
    )

    sent = outgoing_body(call({}, cap=cap), deployment(price=price))

    assert sent["max_completion_tokens"] == written


def test_without_a_cap_the_clients_stands() -> None:
    """
    A metered customer's request keeps its own cap, or has none.
    """
    assert outgoing_body(call({"max_tokens": 7}), deployment()) == {
        "model": "gpt-a",
        "max_tokens": 7,
    }


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        (
            {"stream_options": {"include_usage": False, "include_obfuscation": False}},
            {"include_usage": True, "include_obfuscation": False},
        ),
    ],
)
def test_a_stream_is_asked_for_its_usage(asked: dict[str, object], sent: dict[str, object]) -> None:
    """
    Usage is asked for in every stream, and the client's other options stay.
    """
    assert outgoing_body(call(asked, is_stream=True), deployment())["stream_options"] == sent


def test_the_clients_body_is_not_changed() -> None:
    """
    The next attempt gets the client's body, not what the first one made of it.
    """
    request = call({"stream_options": {"include_usage": False}}, cap=1, is_stream=True)

    outgoing_body(request, deployment())

    assert request.body == {"model": "smart", "stream_options": {"include_usage": False}}


@pytest.mark.parametrize(
    ("provider", "api_base", "url"),
    [
        ("openai", None, "https://api.openai.com/v1/chat/completions"),
        ("xai", None, "https://api.x.ai/v1/chat/completions"),
        ("openai", "http://127.0.0.1:1/v1/", "http://127.0.0.1:1/v1/chat/completions"),
        ("groq", None, "https://api.groq.com/openai/v1/chat/completions"),
        ("cerebras", None, "https://api.cerebras.ai/v1/chat/completions"),
        ("hosted_vllm", "http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1/chat/completions"),
    ],
)
def test_addresses(provider: str, api_base: str | None, url: str) -> None:
    """
    A call goes below the provider's address, or below the deployment's own.
    """
    assert url_of(deployment(provider, api_base=api_base), "chat/completions") == url


def test_xais_reasoning_is_beside_its_output_and_above_its_cap() -> None:
    """
    xAI counts reasoning apart from the output, and its cap does not bound it.
    """
    assert not dialect_of(deployment("xai")).reasoning_in_output
    assert not dialect_of(deployment("xai")).is_reasoning_capped
    assert dialect_of(deployment("openai")).reasoning_in_output
    assert dialect_of(deployment("openai")).is_reasoning_capped


@pytest.mark.parametrize("provider", ["cerebras", "hosted_vllm"])
def test_reasoning_within_the_output_and_its_cap(provider: str) -> None:
    """
    Cerebras and vLLM count the reasoning as output, and their caps bound it.
    """
    dialect = dialect_of(deployment(provider, api_base="http://127.0.0.1:1/v1"))

    assert (dialect.reasoning_in_output, dialect.is_reasoning_capped) == (True, True)


@pytest.mark.parametrize("provider", ["openai", "xai", "groq", "cerebras", "hosted_vllm"])
def test_who_speaks_openais_wire(provider: str) -> None:
    """
    These take a body as it came.
    """
    assert is_direct(provider)


@pytest.mark.parametrize(
    "provider",
    ["anthropic", "mistral", "deepseek", "openrouter", "together_ai", "fireworks_ai", "sambanova"],
)
def test_who_is_translated(provider: str) -> None:
    """
    These speak another wire, refuse what they do not know, or let a body choose another price.
    """
    assert not is_direct(provider)
