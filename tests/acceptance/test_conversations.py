"""
The same conversations over OpenAI's wire and over Anthropic's, held by the same client.

What the two wires cannot do alike is stated here too, each difference by a test of its own.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest
from fixtures.conversations import (
    BOTH,
    CONVERSATIONS,
    RESULTS,
    WEATHER,
    Conversation,
    Used,
    user,
)
from fixtures.world import World, anthropic, deployment, running, tiers

from relay_middleware.testing import Behaviour, RecordedCall, Simulator

pytestmark = pytest.mark.anyio

# Nano-dollars a token: gpt-5-mini costs $0.25 a million, cached $0.025, output $2.
GPT_INPUT, GPT_CACHED, GPT_OUTPUT = 250, 25, 2_000
# claude-haiku-4-5 costs $1 a million, cached $0.10, written $1.25 or for an hour $2, output $5.
CLAUDE_INPUT, CLAUDE_CACHED, CLAUDE_OUTPUT = 1_000, 100, 5_000
CLAUDE_WRITTEN, CLAUDE_WRITTEN_1H = 1_250, 2_000

WAYS = ["whole", "stream", "stream with usage"]

ONLY_WHOLE = {"x-relay-cost-cents", "x-relay-input-tokens", "x-relay-output-tokens"}
"""Headers of what is known when an answer has come, and not when a stream begins."""


@pytest.fixture(name="world", scope="module")
async def _world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """`gpt` speaks OpenAI's wire, `claude` Anthropic's; a customer may spend 100 dollars."""
    simulator = Simulator()
    folder: Path = tmp_path_factory.mktemp("conversations")
    async with simulator.serve() as provider:
        config = {
            "model_list": [
                deployment(provider, name="gpt", profile="gpt", model="gpt-5-mini"),
                anthropic(provider, name="claude", profile="claude"),
            ],
            **tiers(spend_limits=[{"cents": 10_000, "per": "month"}]),
        }
        async with running(folder, config, simulator) as world:
            yield world


@pytest.fixture(autouse=True)
def _well_behaved(world: World) -> None:
    """
    Nothing that another test has told the providers.
    """
    world.simulator.reset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What a client has of an answer, however it came.

    Attributes:
        message: As it would be handed back in the next request.
    """

    text: str | None
    calls: tuple[tuple[str, object], ...]
    finish: str | None
    relay: dict[str, Any]
    cost_cents: Decimal
    usage: openai.types.CompletionUsage
    headers: frozenset[str]
    message: dict[str, Any]


async def ask(world: World, model: str, asked: dict[str, Any], way: str = "whole") -> Answer:
    """Ask as an application would, with OpenAI's client."""
    async with world.client() as client:
        create = client.chat.completions.with_raw_response.create
        if way == "whole":
            raw = await create(model=model, **asked)
            answer = raw.parse()
            message = answer.choices[0].message.model_dump(exclude_none=True)
            last, finish = answer, answer.choices[0].finish_reason
        else:
            options = {"stream_options": {"include_usage": True}} if "usage" in way else {}
            raw = await create(model=model, stream=True, **options, **asked)
            chunks = [chunk async for chunk in raw.parse()]
            message = collected(chunks)
            last = chunks[-1]
            (finish,) = (c.finish_reason for k in chunks for c in k.choices if c.finish_reason)
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return Answer(
        text=message.get("content") or None,
        calls=tuple((call["name"], json.loads(call["arguments"])) for call in calls),
        finish=finish,
        relay=last.model_extra["relay"],
        cost_cents=Decimal(str(last.model_extra["cost_cents"])),
        usage=last.usage,
        headers=frozenset(name for name in raw.headers if name.startswith("x-")),
        message=message,
    )


def collected(chunks: list[openai.types.chat.ChatCompletionChunk]) -> dict[str, Any]:
    """Put the deltas of a stream together, each member as an application does that knows it."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for delta in (choice.delta for chunk in chunks for choice in chunk.choices):
        message["content"] += delta.content or ""
        for call in delta.tool_calls or ():
            calls = message.setdefault("tool_calls", [])
            if call.index == len(calls):
                function = {"name": call.function.name, "arguments": ""}
                calls.append({"id": call.id, "type": "function", "function": function})
            calls[call.index]["function"]["arguments"] += call.function.arguments or ""
        for block in (delta.model_extra or {}).get("thinking_blocks", ()):
            thought = message.setdefault("thinking_blocks", [{"type": "thinking", "thinking": ""}])
            thought[0]["thinking"] += block["thinking"]
            thought[0] |= {name: block[name] for name in block.keys() & {"signature"}}
    return message


def gpt_charge(used: Used) -> int:
    """OpenAI's wire does not tell what was written to the cache, which costs nothing there."""
    plain = used.input - used.cached
    return plain * GPT_INPUT + used.cached * GPT_CACHED + used.output * GPT_OUTPUT


def claude_charge(used: Used, written_rate: int = CLAUDE_WRITTEN) -> int:
    """Anthropic's wire tells what was written; it costs more than what was only read."""
    plain = used.input - used.cached - used.written
    return (
        plain * CLAUDE_INPUT
        + used.cached * CLAUDE_CACHED
        + used.written * written_rate
        + used.output * CLAUDE_OUTPUT
    )


def body_of(call: RecordedCall) -> str:
    """What a provider got, its JSON written as it is read."""
    return json.dumps(json.loads(call.body), ensure_ascii=False).replace("\u2028", "\\u2028")


def test_there_are_twenty() -> None:
    """
    At least 20 conversations are held.
    """
    assert len(CONVERSATIONS) >= 20


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_both_wires(world: World, name: str, way: str) -> None:
    """
    Both providers get and say the same, annotated alike, and each charges its own prices, exactly.
    """
    conversation = CONVERSATIONS[name]
    world.simulator.set("gpt", conversation.behave())
    world.simulator.set("claude", conversation.behave())

    gpt = await ask(world, "gpt", dict(conversation.asked), way)
    claude = await ask(world, "claude", dict(conversation.asked), way)

    for answer, call in zip((gpt, claude), world.simulator.requests, strict=True):
        check_said(conversation, answer)
        check_reached(conversation, call)
        check_counted(conversation, answer)
    assert gpt.relay.keys() == claude.relay.keys()
    assert gpt.headers == claude.headers
    assert gpt.headers & ONLY_WHOLE == (ONLY_WHOLE if way == "whole" else set())
    written_rate = CLAUDE_WRITTEN_1H if conversation.written_for_an_hour else CLAUDE_WRITTEN
    charges = [gpt_charge(conversation.used), claude_charge(conversation.used, written_rate)]
    assert [gpt.relay["charge_nano_usd"], claude.relay["charge_nano_usd"]] == charges
    assert [answer.cost_cents * 10_000_000 for answer in (gpt, claude)] == charges
    assert [row["charge_nano_usd"] for row in await world.ledger()][-2:] == charges


def check_said(conversation: Conversation, answer: Answer) -> None:
    assert answer.finish == conversation.finish
    assert answer.calls == conversation.calls
    if conversation.text is not ...:
        assert answer.text == conversation.text


def check_reached(conversation: Conversation, call: RecordedCall) -> None:
    body = body_of(call)
    for text in conversation.reaches:
        assert json.dumps(text, ensure_ascii=False)[1:-1].replace("\u2028", "\\u2028") in body


def check_counted(conversation: Conversation, answer: Answer) -> None:
    used, relay, usage = conversation.used, answer.relay, answer.usage
    assert (relay["input_tokens"], relay["output_tokens"]) == (used.input, used.output)
    assert (relay["cached_input_tokens"], relay["usage_source"]) == (used.cached, "provider")
    assert (usage.prompt_tokens, usage.completion_tokens) == (used.input, used.output)
    assert usage.prompt_tokens_details.cached_tokens == used.cached
    assert usage.completion_tokens_details.reasoning_tokens == used.reasoning


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", ["gpt", "claude"])
@pytest.mark.parametrize("effort", [None, "low"])
async def test_a_loop_of_tools(world: World, model: str, way: str, effort: str | None) -> None:
    """
    A client that hands back every message as it came is answered until no tool is called; the
    thoughts that Claude shows and signs arrive there again, unchanged.
    """
    asked = {"tools": BOTH} if effort is None else {"tools": BOTH, "reasoning_effort": effort}
    world.simulator.set(model, Behaviour(tool_calls=2))
    messages = [user("Weather and news?")]

    first = await ask(world, model, {"messages": messages, **asked}, way)
    ids = [call["id"] for call in first.message["tool_calls"]]
    results = [{"role": "tool", "tool_call_id": name, "content": "Fine."} for name in ids]
    messages += [first.message, *results]
    second = await ask(world, model, {"messages": messages, **asked}, way)

    assert [name for name, _ in first.calls] == ["get_weather", "get_news"]
    assert (second.calls, second.finish) == ((), "stop")
    assert (second.text or "").startswith("Simulated answer to: Fine.")
    sent = body_of(world.simulator.requests[-1])
    is_thinking = model == "claude" and effort is not None
    assert ("sig_sim_" in sent) is is_thinking
    assert "x-relay-dropped-parameters" not in second.headers


@pytest.mark.parametrize("way", WAYS)
async def test_thoughts_that_are_not_handed_back(world: World, way: str) -> None:
    """
    A client that knows nothing of thoughts is answered without new ones, which a header tells;
    OpenAI's wire needs none.
    """
    asked = {"messages": RESULTS, "tools": BOTH, "reasoning_effort": "low"}

    gpt = await ask(world, "gpt", asked, way)
    claude = await ask(world, "claude", asked, way)

    assert (gpt.finish, claude.finish) == ("stop", "stop")
    assert claude.headers - gpt.headers == {"x-relay-dropped-parameters"}
    assert "reasoning_effort" in body_of(world.simulator.requests[0])
    assert "thinking" not in body_of(world.simulator.requests[1])


@pytest.mark.parametrize("way", WAYS)
async def test_thoughts_are_seen_over_one_wire(world: World, way: str) -> None:
    """
    Claude shows what it thought, as `thinking_blocks`; OpenAI's wire has the count alone.
    """
    asked = dict(CONVERSATIONS["reasoning"].asked)

    gpt = await ask(world, "gpt", asked, way)
    claude = await ask(world, "claude", asked, way)

    assert gpt.usage.completion_tokens_details.reasoning_tokens > 0
    assert "thinking_blocks" not in gpt.message
    (thought,) = claude.message["thinking_blocks"]
    assert thought["thinking"].startswith("Simulated thinking")
    assert claude.usage.completion_tokens_details.reasoning_tokens > 0


@pytest.mark.parametrize(
    ("cap_tokens", "budget_tokens"), [(None, 2048), (6000, 4096), (1500, 1024), (1000, None)]
)
async def test_an_effort_fits_its_cap(
    world: World, cap_tokens: int | None, budget_tokens: int | None
) -> None:
    """
    A high effort is 4,096 tokens for Claude, as many as the tier's cap: it is asked for half of the
    cap then, for no less than 1,024, and not at all where even those do not fit.
    """
    asked = {"messages": [user("Why?")], "reasoning_effort": "high"}

    claude = await ask(world, "claude", asked | {"max_completion_tokens": cap_tokens})

    sent = json.loads(world.simulator.requests[-1].body)
    assert sent["max_tokens"] == (cap_tokens or 4096)
    assert sent.get("thinking", {}).get("budget_tokens") == budget_tokens
    assert ("x-relay-dropped-parameters" in claude.headers) is (budget_tokens is None)


async def test_several_answers_come_over_one_wire(world: World) -> None:
    """
    Anthropic gives one answer to a request: `n` is told as dropped, and one answer is charged.
    """
    behaviour = Behaviour(input_tokens=10, cached_input_tokens=0, output_tokens=6)
    world.simulator.set("gpt", behaviour)
    world.simulator.set("claude", behaviour)
    body = {"messages": [user("Hello!")], "n": 2}

    gpt = await world.post({"model": "gpt", **body})
    claude = await world.post({"model": "claude", **body})

    assert (len(gpt.json()["choices"]), len(claude.json()["choices"])) == (2, 1)
    assert "x-relay-dropped-parameters" not in gpt.headers
    assert claude.headers["x-relay-dropped-parameters"] == "n"
    assert claude.json()["relay"]["charge_nano_usd"] == 10 * CLAUDE_INPUT + 6 * CLAUDE_OUTPUT


@pytest.mark.parametrize("way", WAYS)
async def test_json_without_a_schema_comes_over_one_wire(world: World, way: str) -> None:
    """
    Anthropic has no JSON mode without a schema: it is told as dropped, and answered in prose.
    """
    asked = {"messages": [user("Some JSON.")], "response_format": {"type": "json_object"}}

    gpt = await ask(world, "gpt", asked, way)
    claude = await ask(world, "claude", asked, way)

    assert json.loads(gpt.text or "") == {"simulated": True}
    assert (claude.text or "").startswith("Simulated answer")
    assert claude.headers - gpt.headers == {"x-relay-dropped-parameters"}


@pytest.mark.parametrize("way", WAYS)
async def test_a_forced_tool_does_not_think(world: World, way: str) -> None:
    """
    Claude does not think where a tool is forced: its refusal is the client's to read.
    """
    asked = {
        "messages": [user("Weather?")],
        "tools": [WEATHER],
        "tool_choice": "required",
        "reasoning_effort": "low",
    }

    gpt = await ask(world, "gpt", asked, way)
    with pytest.raises(openai.BadRequestError, match="when tool_choice forces tool use"):
        await ask(world, "claude", asked, way)

    assert gpt.finish == "tool_calls"


async def test_what_is_written_to_the_cache_is_told_over_one_wire(world: World) -> None:
    """
    Anthropic counts writes to the cache, and for how long; OpenAI's wire has no such count.
    """
    conversation = CONVERSATIONS["prompt cache"]
    world.simulator.set("gpt", conversation.behave())
    world.simulator.set("claude", conversation.behave())

    await ask(world, "gpt", dict(conversation.asked))
    await ask(world, "claude", dict(conversation.asked))

    rows = await world.ledger()
    assert [row["cache_write_input_tokens"] for row in rows][-2:] == [0, 2_900]
