"""
Fault matrix, who pays what (DESIGN 5.11): however a request ends, over both wires.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures.books import audited, number
from fixtures.raw_client import connect, hang_up, request_bytes
from fixtures.world import MESSAGES, World, anthropic, deployment, operation, tiers

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.ledger.operations import CustomerChange, set_tier
from relay_middleware.testing import Behaviour, Simulator
from relay_middleware.upstream.wire import Wire

pytestmark = pytest.mark.anyio

TEXT = "12345678" * 25
"""200 bytes: 50 tokens, in 25 events of 2 tokens."""
ANSWER: Mapping[str, object] = {
    "text": TEXT,
    "chunk_tokens": 2,
    "input_tokens": 100,
    "cached_input_tokens": 0,
    "output_tokens": 50,
    "reasoning_tokens": 0,
}
LATE: Mapping[str, object] = {"latency_s": 1, "first_chunk_delay_s": 1}
"""Late enough for a client to be gone first, on a slow machine too."""
PRICES = {"direct": (150, 600), "translated": (1_000, 5_000)}
"""Nano-dollars a token, input and output: gpt-4o-mini's and claude-haiku-4-5's."""
IMPATIENT = {"connect_s": 2, "non_stream_s": 0.3, "between_chunks_s": 0.3}


@dataclass(frozen=True, slots=True)
class Paid:
    """
    How a request ended: its state in the ledger, whose count was charged, and how many tokens of
    output at least and at most.
    """

    state: str
    source: str | None
    least_tokens: int
    most_tokens: int


ALL = Paid("settled", "provider", 50, 50)
ALL_COUNTED = Paid("settled", "counted", 50, 50)
WHAT_CAME = Paid("settled", "counted", 2, 12)
INPUT = Paid("settled", "counted", 0, 0)
NOTHING = Paid("released", None, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    Attributes:
        behaviour: What the provider does beside answering.
        status: What the client gets, whole or streamed; 499 where it does not wait for it.
        whole: Who pays what where no stream was asked for.
        tier: `drain` or `cancel`, of a client that leaves when the provider is at work.
    """

    behaviour: Mapping[str, object] = field(default_factory=dict)
    status: tuple[int, int]
    whole: Paid
    stream: Paid
    tier: str | None = None


CASES: Mapping[str, Case] = {
    "answered": Case(status=(200, 200), whole=ALL, stream=ALL),
    "client-gone-drained": Case(
        behaviour={**LATE},
        status=(499, 499),
        whole=ALL,
        stream=ALL,
        tier="drain",
    ),
    "client-gone-drained-without-usage": Case(
        behaviour={**LATE, "usage": "none"},
        status=(499, 499),
        whole=ALL_COUNTED,
        stream=ALL_COUNTED,
        tier="drain",
    ),
    "client-gone-drained-and-refused": Case(
        behaviour={**LATE, "status": 400},
        status=(499, 499),
        whole=NOTHING,
        stream=NOTHING,
        tier="drain",
    ),
    "client-gone-cancelled": Case(
        behaviour={"stall": "before_headers"},
        status=(499, 499),
        whole=INPUT,
        stream=INPUT,
        tier="cancel",
    ),
    "client-gone-cancelled-after-content": Case(
        behaviour={"stall": "after_content"},
        status=(499, 200),
        whole=INPUT,
        stream=WHAT_CAME,
        tier="cancel",
    ),
    "cut-after-content": Case(
        behaviour={"cut_after_chunks": 6, "chunk_delay_s": 0.02},
        status=(502, 200),
        whole=NOTHING,
        stream=WHAT_CAME,
    ),
    "silent-after-content": Case(
        behaviour={"stall": "after_content"},
        status=(504, 200),
        whole=NOTHING,
        stream=WHAT_CAME,
    ),
    "error-after-content": Case(
        behaviour={"stream_error_after_chunks": 6, "chunk_delay_s": 0.02},
        status=(200, 200),
        whole=ALL,
        stream=WHAT_CAME,
    ),
    "error-before-content": Case(
        behaviour={"stream_error_after_chunks": 0},
        status=(200, 502),
        whole=ALL,
        stream=NOTHING,
    ),
    "time-out": Case(
        behaviour={"stall": "before_headers"}, status=(504, 504), whole=NOTHING, stream=NOTHING
    ),
    "silent-after-headers": Case(
        behaviour={"stall": "after_headers"}, status=(504, 504), whole=NOTHING, stream=NOTHING
    ),
    "reset": Case(
        behaviour={"cut_after_chunks": 0}, status=(502, 502), whole=NOTHING, stream=NOTHING
    ),
    "failed": Case(behaviour={"status": 500}, status=(502, 502), whole=NOTHING, stream=NOTHING),
    "asked-to-wait": Case(
        behaviour={"status": 429}, status=(503, 503), whole=NOTHING, stream=NOTHING
    ),
    "refused": Case(behaviour={"status": 400}, status=(400, 400), whole=NOTHING, stream=NOTHING),
}


def expected(wire: str, name: str, *, stream: bool) -> Paid:
    """Who pays what in a case, over a wire."""
    if (wire, name, stream) == ("translated", "client-gone-drained-without-usage", False):
        # LiteLLM takes no whole message without usage for an answer, so there is none.
        return NOTHING
    return CASES[name].stream if stream else CASES[name].whole


async def ask(world: World, name: str, *, stream: bool) -> None:
    """Have the request of a case end; its customer and its model are called like it."""
    case = CASES[name]
    if case.tier is None:
        await world.post(
            {"model": name, "messages": MESSAGES, "max_tokens": 200, "stream": stream},
            customer=name,
        )
        return
    reader, writer = await connect(world)
    writer.write(
        request_bytes(world, stream=stream, customer=name, more={"model": name, "max_tokens": 200})
    )
    await asyncio.to_thread(world.simulator.wait_for_calls, 1, name)
    if stream and case.stream is WHAT_CAME:
        await reader.readuntil(b"12345678")
    await hang_up(writer)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wire", ["direct", "translated"])
async def test_who_pays_what(tmp_path: Path, wire: str, *, stream: bool) -> None:
    """
    The customer pays what the provider reports, or what came as it is counted, or the input where
    it left before that; nothing where no answer came; and each token once, at its price.
    """
    simulator = Simulator()
    for name, case in CASES.items():
        simulator.set(name, Behaviour.from_json({**ANSWER, **case.behaviour}))
    async with simulator.serve() as provider:
        entry = {"direct": deployment, "translated": anthropic}[wire]
        config = tiers(max_concurrency=1, token_limits=["1000000/day"])
        tier = config["tiers"]["free"]  # type: ignore[index]  # the sections are plain mappings
        config["tiers"] = {"free": tier, "cancel": {**tier, "on_disconnect": "cancel"}}
        config["model_list"] = [
            {**entry(provider, name=name, profile=name), **timeouts_of(case)}
            for name, case in CASES.items()
        ]
        async with audited(tmp_path, config, simulator) as (world, _):
            for name in (name for name, case in CASES.items() if case.tier == "cancel"):
                change = CustomerChange(customer_id=CustomerId(name), tier="cancel")
                await set_tier(world.database, operation(), change)
            await world.relay.refresh()
            # One by one those who must be quick: they leave before they are answered.
            for name in (name for name, case in CASES.items() if case.tier is not None):
                await ask(world, name, stream=stream)
            others = [name for name, case in CASES.items() if case.tier is None]
            await asyncio.gather(*(ask(world, name, stream=stream) for name in others))
            rows = {str(row["customer_id"]): row for row in await world.ledger()}

    input_price, output_price = PRICES[wire]
    for name, case in CASES.items():
        row, paid = rows[name], expected(wire, name, stream=stream)
        told = (row["state"], row["usage_source"], row["status_code"])
        assert told == (paid.state, paid.source, case.status[stream]), name
        output_tokens = number(row, "output_tokens")
        assert paid.least_tokens <= output_tokens <= paid.most_tokens, name
        charge = number(row, "input_tokens") * input_price + output_tokens * output_price
        assert (row["charge_nano_usd"], row["cost_nano_usd"]) == (charge, charge), name
        assert (number(row, "input_tokens") > 0) is (paid is not NOTHING), name


async def test_an_answer_that_is_too_long_to_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Two deployments could give it, one does, and it is charged for two choices of the 50 tokens that
    each may have: who asks for it again and again spends its own money, not the operator's.
    """
    monkeypatch.setitem(Wire.__init__.__kwdefaults__, "max_answer_bytes", 200)
    simulator = Simulator()
    for profile in ("one", "other"):
        simulator.set(profile, Behaviour.from_json({**ANSWER, "text": "long " * 400}))
    async with simulator.serve() as provider:
        models = [deployment(provider, profile=profile) for profile in ("one", "other")]
        async with audited(tmp_path, {"model_list": models, **tiers()}, simulator) as (world, _):
            answer = await world.post(
                {"model": "smart", "messages": MESSAGES, "max_tokens": 50, "n": 2}
            )
            (row,) = await world.ledger()

    assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "false")
    assert answer.json()["error"]["code"] == "answer_too_long"
    assert simulator.calls() == 1
    told = (row["state"], row["usage_source"], row["status_code"], row["output_tokens"])
    assert told == ("settled", "counted", 502, 100)
    # "Hello!" has 6 bytes, "user" 4 more: 3 tokens at 150 nano-dollars, and 100 at 600.
    assert row["charge_nano_usd"] == 3 * 150 + 100 * 600


def timeouts_of(case: Case) -> Mapping[str, object]:
    """A provider that is not waited for in vain is not waited for long."""
    stall = case.behaviour.get("stall")
    if stall is None or case.tier is not None:
        return {}
    # Content must come in time, on a slow machine too.
    return {"timeouts": {**IMPATIENT, "first_event_s": 20 if stall == "after_content" else 0.3}}
