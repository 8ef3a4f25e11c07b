"""
Usage that real providers reported, through LiteLLM's translation and our reading, over sockets.

The bodies around the recorded usages are made here; what counts is what is read of the usages.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fixtures.clock import FakeClock
from fixtures.provider import ScriptedProvider, answer, scripted_provider
from fixtures.requirements import missing

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints import chat
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.usage import Usage
from relay_middleware.ports.providers import UpstreamCall, WholeAnswer
from relay_middleware.upstream.translation import Translation

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "recorded_usages.json"

MOST_OF_A_FORM = 10
"""How many records with the same members are read: more would prove nothing more."""

CALL = UpstreamCall(
    endpoint=chat.ENDPOINT,
    model="smart",
    body={"model": "smart", "messages": [{"role": "user", "content": "Hello!"}]},
    is_stream=False,
    output_cap_tokens=100,
)

Json = dict[str, Any]


def gemini(usage: Json) -> Json:
    content = {"parts": [{"text": "x"}], "role": "model"}
    candidate = {"content": content, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}


def claude(usage: Json) -> Json:
    content = [{"type": "text", "text": "x"}]
    head = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content}
    return head | {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}


def bedrock(usage: Json) -> Json:
    message = {"role": "assistant", "content": [{"text": "x"}]}
    end = {"stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
    return {"output": {"message": message}, **end}


def cohere(usage: Json) -> Json:
    message = {"role": "assistant", "content": [{"type": "text", "text": "x"}]}
    return {"id": "m", "finish_reason": "COMPLETE", "message": message, "usage": usage}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """
    How a provider reports usage.

    Attributes:
        sign: Member that only its usages have.
        body: Puts an answer around a usage.
        path: What of the address is the operator's to write.
    """

    provider: str
    sign: str
    body: Any
    path: str = ""
    model: str = "m"
    credentials: Mapping[str, object] | None = None


SHAPES = {
    "gemini": Shape(provider="gemini", sign="promptTokenCount", body=gemini, path="/v1beta"),
    "anthropic": Shape(provider="anthropic", sign="cache_read_input_tokens", body=claude),
    "bedrock": Shape(
        provider="bedrock",
        sign="inputTokens",
        body=bedrock,
        model="anthropic.claude-haiku-4-5-20251001-v1:0",
        credentials={
            "aws_access_key_id": "a",
            "aws_secret_access_key": "b",
            "aws_region_name": "us-east-1",
        },
    ),
    "cohere": Shape(provider="cohere_chat", sign="billed_units", body=cohere, path="/v2/chat"),
}


@pytest.fixture(name="provider", scope="module")
async def _provider() -> AsyncIterator[ScriptedProvider]:
    async with scripted_provider() as provider:
        yield provider


@pytest.fixture(name="translation", scope="module")
async def _translation() -> AsyncIterator[Translation]:
    translation = Translation(clock=FakeClock())
    yield translation
    await translation.aclose()


def records(shape: Shape) -> list[tuple[Json, Json]]:
    """Usages of that shape, each with its record: at most some of each form."""
    if not RECORDED.exists():
        missing("recorded usages", f"{RECORDED.name} is not beside the repository")
    by_form: dict[str, list[tuple[Json, Json]]] = {}
    for record in json.loads(RECORDED.read_text()):
        usage = record["body"].get("usageMetadata") or record["body"].get("usage") or {}
        if shape.sign in usage:
            by_form.setdefault(form_of(usage), []).append((usage, record))
    return [pair for pairs in by_form.values() for pair in islice(pairs, MOST_OF_A_FORM)]


def form_of(value: object) -> str:
    """The members of a usage, and of what is in it, without their numbers."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}{form_of(value[name])}" for name in sorted(value)) + "}"
    return "[" + ",".join(form_of(item) for item in value) + "]" if isinstance(value, list) else ""


async def read(
    translation: Translation, provider: ScriptedProvider, shape: Shape, usage: Json
) -> Usage:
    """What Relay makes of *usage*."""
    provider.script = [answer(shape.body(usage))]
    deployment = Deployment(
        deployment_id=DeploymentId(f"{shape.provider}#1"),
        model="smart",
        provider=shape.provider,
        deployment_model=shape.model,
        api_base=provider.url.removesuffix("/v1") + shape.path,
        api_key=None if shape.credentials else "sk-1",
    )
    deployment = replace(deployment, credentials=shape.credentials or {})
    told = await translation.send(CALL, deployment, on_break=lambda: None)
    assert isinstance(told, WholeAnswer), told
    found = chat.usage_of(told.members, reasoning_in_output=True)
    assert found is not None
    return found


def counts(usage: Usage) -> tuple[int, ...]:
    written = usage.cache_write_input_tokens + usage.cache_write_1h_input_tokens
    return (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, written)


def readings(record: Json) -> list[tuple[int, ...]]:
    """The other project's counts, for each way of reading the body."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return [tuple(each["usage"].get(name, 0) for name in names) for each in record["extracted"]]


@pytest.mark.parametrize(("name", "least"), [("gemini", 40), ("anthropic", 20), ("bedrock", 20)])
async def test_agrees_with_recorded_usages(
    translation: Translation, provider: ScriptedProvider, name: str, least: int
) -> None:
    """
    Input, output and both sides of the cache are what another project reads of the same usages,
    wherever the provider counts the whole answer at once.
    """
    read_so_far, disagreeing = 0, []
    for usage, record in records(SHAPES[name]):
        if "iterations" not in usage:
            found = counts(await read(translation, provider, SHAPES[name], usage))
            read_so_far += 1
            disagreeing += [] if found in readings(record) else [(found, usage)]

    assert read_so_far >= least
    assert disagreeing == []


async def test_every_iteration_is_counted(
    translation: Translation, provider: ScriptedProvider
) -> None:
    """
    Where Claude ran several times for one answer the sum is counted, which is what is billed; the
    members beside name the last run alone.
    """
    usages = [usage for usage, _ in records(SHAPES["anthropic"]) if "iterations" in usage]

    for usage in usages:
        found = await read(translation, provider, SHAPES["anthropic"], usage)
        runs = usage["iterations"]
        assert found.output_tokens == sum(run["output_tokens"] for run in runs)
        assert found.output_tokens >= usage["output_tokens"]
    assert usages


async def test_coheres_tokens_are_counted_and_not_its_billed_units(
    translation: Translation, provider: ScriptedProvider
) -> None:
    """
    LiteLLM tells all tokens of Cohere's; those it does not bill are among them, and which of them
    came from the cache is not told.
    """
    for usage, _ in records(SHAPES["cohere"]):
        found = await read(translation, provider, SHAPES["cohere"], usage)
        tokens = usage["tokens"]
        assert counts(found) == (tokens["input_tokens"], tokens["output_tokens"], 0, 0)
        assert usage["billed_units"]["input_tokens"] <= found.input_tokens
