"""
What Relay relies on LiteLLM's Router for, beyond what LiteLLM documents.

Rules for editors. Run over the pinned version of LiteLLM, and over the newest by
`make check-litellm`. Real sockets: a deployment is dead because its port is closed, because nobody
answers there, or because it answers 500. The Router shuffles, so what holds must hold each time:
hence a hundred requests.
"""

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise

import pytest
import time_machine
from fixtures.clock import FakeClock
from fixtures.provider import (
    COMMENT,
    CONTENT,
    DONE,
    STREAM,
    STREAM_END,
    Act,
    Script,
    ScriptedProvider,
    answer,
    event,
    scripted_provider,
)

from relay_middleware.core.deployments import Deployment, Timeouts
from relay_middleware.core.endpoints import chat
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.records import Attempt, AttemptOutcome
from relay_middleware.errors import (
    NoDeploymentError,
    StreamBrokenError,
    UpstreamError,
    UpstreamFailedError,
    UpstreamTimeoutError,
)
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.upstream.router import LiteLlmUpstream
from relay_middleware.upstream.translation import Translation
from relay_middleware.upstream.wire import Answer, Wire

pytestmark = pytest.mark.anyio

# Only for those that stay silent: a busy machine may take its time to answer.
QUICK = Timeouts(connect_s=0.1, first_event_s=0.1, non_stream_s=0.1, between_chunks_s=0.1)

ALIVE_WHOLE = (answer({"choices": [{"message": {"content": "Hello"}}]}),)
ALIVE_STREAM = (STREAM, CONTENT, DONE, STREAM_END)
ERROR_500 = (answer({"error": {"message": "at http://10.0.0.1"}}, status=500),)
SILENT = (Act.SILENCE,)
CLOSED_PORT = None
"""In place of a script: nobody listens."""

DEAD: Mapping[str, Script | None] = {
    "closed port": CLOSED_PORT,
    "silent": SILENT,
    "500": ERROR_500,
}


class World:
    """Providers that do as they are told, and the upstream over them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self.providers: dict[str, ScriptedProvider] = {}
        self.deployments: list[Deployment] = []

    async def deploy(
        self,
        name: str,
        script: Script | None,
        *,
        model: str = "smart",
        order: int | None = None,
        weight: float | None = None,
    ) -> None:
        """Add a deployment called *name* of *model*, at a provider of its own."""
        if script is None:
            async with scripted_provider() as closed:
                url = closed.url
        else:
            provider = await self._stack.enter_async_context(scripted_provider(*script))
            self.providers[name] = provider
            url = provider.url
        self.deployments.append(
            Deployment(
                deployment_id=DeploymentId(name),
                model=model,
                provider="openai",
                deployment_model="gpt-a",
                api_base=url,
                api_key="sk-upstream",
                order=order,
                weight=weight,
                timeouts=QUICK if script and Act.SILENCE in script else Timeouts(),
            )
        )

    def open(
        self,
        *,
        fallbacks: Mapping[str, Sequence[str]] | None = None,
        allowed_fails: int = 1,
        cooldown_time_s: float = 60.0,
    ) -> LiteLlmUpstream:
        """Make the upstream; it is closed with the test."""
        upstream = LiteLlmUpstream(
            self.deployments,
            fallbacks=fallbacks or {},
            wire=Wire(clock=FakeClock()),
            translation=Translation(clock=FakeClock()),
            clock=FakeClock(),
            allowed_fails=allowed_fails,
            cooldown_time_s=cooldown_time_s,
        )
        self._stack.push_async_callback(upstream.aclose)
        return upstream


@pytest.fixture(name="world")
async def _world() -> AsyncIterator[World]:
    """A world without deployments."""
    async with AsyncExitStack() as stack:
        yield World(stack)


async def send(
    upstream: LiteLlmUpstream,
    *,
    model: str = "smart",
    is_stream: bool = False,
    attempts: list[Attempt] | None = None,
) -> Answer:
    """Send one request; read a stream to its end. Its attempts are added to *attempts*."""
    call = UpstreamCall(
        endpoint=chat.ENDPOINT,
        model=model,
        body={"model": model, "messages": [], "metadata": {"a": "1"}, "num_retries": 9},
        is_stream=is_stream,
        output_cap_tokens=None,
        on_attempt=[].append if attempts is None else attempts.append,
    )
    result = await upstream.send(call)
    if isinstance(result, StreamAnswer):
        assert b"Hello" in b"".join([chunk async for chunk in result.chunks])
    return result


async def tried(upstream: LiteLlmUpstream, *, is_stream: bool = False) -> list[str]:
    """Send one request and return whom it was tried at."""
    attempts: list[Attempt] = []
    await send(upstream, is_stream=is_stream, attempts=attempts)
    return [attempt.deployment_id for attempt in attempts]


async def failed(upstream: LiteLlmUpstream, *, is_stream: bool = False) -> UpstreamError:
    """Send one request and return the error that comes of it."""
    with pytest.raises(UpstreamError) as caught:
        await send(upstream, is_stream=is_stream)
    return caught.value


@pytest.mark.slow
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
@pytest.mark.parametrize("where", ["one of two", "two of three", "before a fallback"])
async def test_the_dead_are_left_out(
    world: World, where: str, dead: Script | None, *, is_stream: bool
) -> None:
    """
    With a live deployment in reach all of 100 requests are answered; the dead cost each of them two
    attempts, and no later request any.
    """
    alive_model = "backup" if where == "before a fallback" else "smart"
    names = ["dead-1"] if where == "one of two" else ["dead-1", "dead-2"]
    for name in names:
        await world.deploy(name, dead)
    await world.deploy("alive", ALIVE_STREAM if is_stream else ALIVE_WHOLE, model=alive_model)
    upstream = world.open(fallbacks={"smart": ["backup"]} if alive_model == "backup" else None)

    chains = [await tried(upstream, is_stream=is_stream) for _ in range(100)]

    assert all(chain[-1] == "alive" for chain in chains)
    assert all(len(set(chain)) == len(chain) for chain in chains)
    assert Counter(name for chain in chains for name in chain[:-1]) == dict.fromkeys(names, 2)


async def test_a_deployment_comes_back(world: World) -> None:
    """
    After its cooldown a deployment is tried again, and serves when it is well.
    """
    await world.deploy("first", ERROR_500, order=1)
    await world.deploy("second", ALIVE_WHOLE, order=2)
    upstream = world.open(cooldown_time_s=60.0)

    with time_machine.travel(time.time(), tick=False) as traveller:
        for _ in range(2):
            assert await tried(upstream) == ["first", "second"]
        assert await tried(upstream) == ["second"]

        world.providers["first"].script = ALIVE_WHOLE
        traveller.shift(59)
        assert await tried(upstream) == ["second"]
        traveller.shift(2)
        assert await tried(upstream) == ["first"]


@pytest.mark.parametrize("allowed_fails", [0, 1, 2, 3, 4])
async def test_allowed_fails_is_what_it_says(world: World, allowed_fails: int) -> None:
    """
    So many failures leave the only deployment of a model in, one more leaves it out; also 3, which
    LiteLLM by itself takes for "not set".
    """
    await world.deploy("only", ERROR_500)
    upstream = world.open(allowed_fails=allowed_fails)

    errors = [await failed(upstream) for _ in range(allowed_fails + 3)]

    assert [type(error) for error in errors] == [
        *[UpstreamFailedError] * (allowed_fails + 1),
        NoDeploymentError,
        NoDeploymentError,
    ]
    assert len(world.providers["only"].received) == allowed_fails + 1


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("dead", "kind", "outcome", "status_code"),
    [
        (CLOSED_PORT, UpstreamFailedError, AttemptOutcome.FAILED, None),
        (SILENT, UpstreamTimeoutError, AttemptOutcome.TIMED_OUT, None),
        (ERROR_500, UpstreamFailedError, AttemptOutcome.FAILED, 500),
    ],
    ids=DEAD,
)
async def test_all_dead(
    *,
    world: World,
    dead: Script | None,
    kind: type[UpstreamError],
    outcome: AttemptOutcome,
    status_code: int | None,
    is_stream: bool,
) -> None:
    """
    Where nobody answers each is tried once, the error says how the last one failed, and once all
    are left out nobody is called any more.
    """
    await world.deploy("one", dead)
    await world.deploy("two", dead)
    await world.deploy("backup", dead, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})

    first, _, third = [await failed(upstream, is_stream=is_stream) for _ in range(3)]

    assert type(first) is kind
    assert sorted(attempt.deployment_id for attempt in first.attempts) == ["backup", "one", "two"]
    assert {attempt.outcome for attempt in first.attempts} == {outcome}
    assert {attempt.status_code for attempt in first.attempts} == {status_code}
    assert isinstance(third, NoDeploymentError)
    assert third.attempts == ()
    assert third.retry_after_s == 60.0


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (ERROR_500, SILENT, UpstreamTimeoutError),
        (SILENT, ERROR_500, UpstreamFailedError),
        (ERROR_500, (answer({}, status=429),), NoDeploymentError),
    ],
    ids=["time-out last", "error last", "429 last"],
)
async def test_the_last_failure_counts(
    world: World, first: Script, second: Script, kind: type[UpstreamError]
) -> None:
    """
    The error is of the kind in which the last deployment tried failed.
    """
    await world.deploy("one", first)
    await world.deploy("backup", second, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})

    assert type(await failed(upstream)) is kind


async def test_a_cooling_model_is_served_by_its_fallback(world: World) -> None:
    """
    A group whose deployments are all left out sends its requests on, without an attempt.
    """
    await world.deploy("dead", CLOSED_PORT)
    await world.deploy("backup", ALIVE_WHOLE, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})
    for _ in range(2):
        assert await tried(upstream) == ["dead", "backup"]

    assert await tried(upstream) == ["backup"]


async def test_fallbacks_of_fallbacks(world: World) -> None:
    """
    A chain is followed to its end, longer than LiteLLM's five steps, and a circle ends.
    """
    models = ["smart", *"bcdefg"]
    for model in models:
        await world.deploy(model, ALIVE_WHOLE if model == "g" else CLOSED_PORT, model=model)
    chain = {model: [other] for model, other in pairwise(models)}
    upstream = world.open(fallbacks={**chain, "g": ["smart"]})

    assert await tried(upstream) == models


async def test_several_fallbacks_in_their_order(world: World) -> None:
    """
    Of two fallbacks the first that answers serves.
    """
    for model in ("smart", "b", "c", "d"):
        await world.deploy(
            model, CLOSED_PORT if model in {"smart", "b"} else ALIVE_WHOLE, model=model
        )
    upstream = world.open(fallbacks={"smart": ["b", "c", "d"]})

    assert await tried(upstream) == ["smart", "b", "c"]


async def test_orders_are_tried_in_turn(world: World) -> None:
    """
    All of an order are tried before the next, and the fallback comes last.
    """
    await world.deploy("third", CLOSED_PORT)
    await world.deploy("second", CLOSED_PORT, order=2)
    await world.deploy("first-a", CLOSED_PORT, order=1)
    await world.deploy("first-b", CLOSED_PORT, order=1)
    await world.deploy("fallback", ALIVE_WHOLE, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})

    chain = await tried(upstream)

    assert sorted(chain[:2]) == ["first-a", "first-b"]
    assert chain[2:] == ["second", "third", "fallback"]


async def test_weights_share_the_traffic(world: World) -> None:
    """
    A deployment of weight 9 is chosen far more often than one of weight 1.
    """
    await world.deploy("heavy", ALIVE_WHOLE, weight=9)
    await world.deploy("light", ALIVE_WHOLE, weight=1)
    upstream = world.open()

    chosen = Counter([(await tried(upstream))[0] for _ in range(100)])

    # Binomial: below 70 of 100 at p = 0.9 has a probability of about 1e-8.
    assert chosen["heavy"] >= 70


async def test_a_429_sets_the_time_of_leaving_out(world: World) -> None:
    """
    A provider that asks for 7 seconds is left out for 7, whatever is configured, and a client whose
    request nobody could take is told so.
    """
    slow_down = answer({}, status=429, headers="Retry-After: 7\r\n")
    await world.deploy("only", (slow_down,))
    upstream = world.open(cooldown_time_s=60.0)

    with time_machine.travel(time.time(), tick=False) as traveller:
        errors = [await failed(upstream) for _ in range(3)]
        assert all(isinstance(error, NoDeploymentError) for error in errors)
        assert isinstance(errors[0], NoDeploymentError)
        assert errors[0].retry_after_s == 7
        assert [len(error.attempts) for error in errors] == [1, 1, 0]

        world.providers["only"].script = ALIVE_WHOLE
        traveller.shift(8)
        assert await tried(upstream) == ["only"]


async def test_a_429_without_a_time(world: World) -> None:
    """
    Where the provider names no time, a client is told the configured one.
    """
    await world.deploy("only", (answer({}, status=429),))
    upstream = world.open(cooldown_time_s=60.0)

    error = await failed(upstream)

    assert isinstance(error, NoDeploymentError)
    assert error.retry_after_s == 60.0


@pytest.mark.parametrize("status", [401, 403, 404, 408, 409, 429, 500, 502, 503, 529])
async def test_a_status_that_another_cures(world: World, status: int) -> None:
    """
    What is wrong with one deployment alone is cured by the next, and noted.
    """
    await world.deploy("dead", (answer({}, status=status),))
    await world.deploy("backup", ALIVE_WHOLE, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})

    attempts: list[Attempt] = []
    await send(upstream, attempts=attempts)

    assert [(a.deployment_id, a.outcome, a.status_code) for a in attempts] == [
        ("dead", AttemptOutcome.FAILED, status),
        ("backup", AttemptOutcome.SERVED, 200),
    ]


@pytest.mark.parametrize("status", [401, 404])
async def test_a_wrong_key_is_left_out(world: World, status: int) -> None:
    """
    A deployment with a wrong key or model is left out like a dead one.
    """
    await world.deploy("dead", (answer({}, status=status),))
    await world.deploy("backup", ALIVE_WHOLE, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})

    chains = [await tried(upstream) for _ in range(4)]

    assert [len(chain) for chain in chains] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    "script",
    [
        (STREAM, event({"error": {"message": "overloaded"}}), STREAM_END),
        (STREAM,),
        (STREAM, COMMENT, Act.SILENCE),
        (STREAM, STREAM_END),
    ],
    ids=["an error event first", "cut", "stalled after a comment", "empty"],
)
async def test_a_stream_that_fails_before_content(world: World, script: Script) -> None:
    """
    A stream that gives nothing is given up for another, twice, and then left out.
    """
    await world.deploy("dead", script)
    await world.deploy("backup", ALIVE_STREAM, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})

    chains = [await tried(upstream, is_stream=True) for _ in range(3)]

    assert chains == [["dead", "backup"], ["dead", "backup"], ["backup"]]


async def test_a_stream_that_breaks_after_content(world: World) -> None:
    """
    After content there is no fallback, but the deployment that breaks twice is left out.
    """
    await world.deploy("dead", (STREAM, CONTENT))
    await world.deploy("backup", ALIVE_STREAM, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})

    for _ in range(2):
        with pytest.raises(StreamBrokenError):
            await send(upstream, is_stream=True)

    assert await tried(upstream, is_stream=True) == ["backup"]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refusal_goes_nowhere_else(world: World, status: int) -> None:
    """
    A wrong request is refused once, is nobody else's, and leaves nobody out.
    """
    await world.deploy("one", (answer({"error": {"message": "no"}}, status=status),))
    await world.deploy("two", ALIVE_WHOLE, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]}, allowed_fails=0)

    attempts: list[Attempt] = []
    results = [await send(upstream, attempts=attempts) for _ in range(3)]

    assert len(world.providers["one"].received) == 3
    assert world.providers["two"].received == []
    for result in results:
        assert isinstance(result, RefusedAnswer)
        assert result.status_code == status
    assert [attempt.outcome for attempt in attempts] == 3 * [AttemptOutcome.REFUSED]


async def test_the_bodys_names_steer_nothing(world: World) -> None:
    """
    What LiteLLM would read from keyword arguments is just sent on when a client writes it.
    """
    await world.deploy("one", ALIVE_WHOLE)
    await world.deploy("two", ALIVE_WHOLE, model="other")
    upstream = world.open()
    body = {
        "model": "other",
        "messages": [],
        "fallbacks": ["other"],
        "mock_testing_fallbacks": True,
        "disable_fallbacks": True,
        "num_retries": 3,
        "metadata": {"model_group": "other"},
        "_target_order": 2,
        "_excluded_deployment_ids": ["one"],
    }

    result = await upstream.send(
        UpstreamCall(
            endpoint=chat.ENDPOINT,
            model="smart",
            body=body,
            is_stream=False,
            output_cap_tokens=None,
        )
    )

    assert isinstance(result, WholeAnswer)
    assert result.deployment.deployment_id == "one"


@pytest.mark.parametrize("name", ["*", "openai/*", "gpt-*", "auto_router/x"])
async def test_a_models_name_is_only_a_name(world: World, name: str) -> None:
    """
    A model called like a wildcard of LiteLLM's is asked for by that name and by no other.
    """
    await world.deploy("wild", ALIVE_WHOLE, model=name)
    upstream = world.open()

    assert (await send(upstream, model=name)).deployment.deployment_id == "wild"
    with pytest.raises(UpstreamFailedError, match="no such model"):
        await send(upstream, model="openai/gpt-4o")
    assert upstream.reachable("openai/gpt-4o") == ()
    assert [each.deployment_id for each in upstream.reachable(name)] == ["wild"]


async def test_cancelling_is_no_failure(world: World) -> None:
    """
    A client that goes ends the provider's work; no other deployment is called, none left out.
    """
    await world.deploy("slow", SILENT)
    await world.deploy("backup", ALIVE_WHOLE, model="backup")
    world.deployments[0] = replace(world.deployments[0], timeouts=Timeouts())
    upstream = world.open(fallbacks={"smart": ["backup"]}, allowed_fails=0)
    sending = asyncio.create_task(send(upstream))
    await world.providers["slow"].arrived.wait()

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    await asyncio.wait_for(world.providers["slow"].left.wait(), 1)
    assert world.providers["backup"].received == []
    world.providers["slow"].script = ALIVE_WHOLE
    assert await tried(upstream) == ["slow"]


async def test_each_attempt_is_told(world: World) -> None:
    """
    A caller hears of every attempt when it has ended, and of each deployment that anything of the
    request may have reached: not of one that no connection could be made to.
    """
    await world.deploy("dead", CLOSED_PORT)
    await world.deploy("backup", ALIVE_WHOLE, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})
    sent: list[str] = []
    made: list[tuple[str, AttemptOutcome]] = []

    await upstream.send(
        UpstreamCall(
            endpoint=chat.ENDPOINT,
            model="smart",
            body={},
            is_stream=False,
            output_cap_tokens=None,
            on_sent=lambda each: sent.append(each.deployment_id),
            on_attempt=lambda each: made.append((each.deployment_id, each.outcome)),
        )
    )

    assert sent == ["backup"]
    assert made == [("dead", AttemptOutcome.FAILED), ("backup", AttemptOutcome.SERVED)]


async def test_a_cancelled_attempt_is_told(world: World) -> None:
    """
    One that is given up while its provider is silent ends as cancelled, after it was announced; and
    what was last seen of the deployment stays as it was.
    """
    await world.deploy("slow", SILENT)
    upstream = world.open()
    sent: list[str] = []
    made: list[tuple[str, AttemptOutcome]] = []
    call = UpstreamCall(
        endpoint=chat.ENDPOINT,
        model="smart",
        body={},
        is_stream=False,
        output_cap_tokens=None,
        on_sent=lambda each: sent.append(each.deployment_id),
        on_attempt=lambda each: made.append((each.deployment_id, each.outcome)),
    )

    sending = asyncio.create_task(upstream.send(call))
    await asyncio.wait_for(world.providers["slow"].arrived.wait(), 5)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    assert sent == ["slow"]
    assert made == [("slow", AttemptOutcome.CANCELLED)]
    (status,) = upstream.status()
    assert status.last_outcome is None


async def test_the_first_failure_loads_nothing(world: World) -> None:
    """
    When a deployment is first left out the event loop does not stand still for an import.
    """
    await world.deploy("dead", CLOSED_PORT)
    await world.deploy("backup", ALIVE_WHOLE, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]}, allowed_fails=0)
    loaded = set(sys.modules)

    await tried(upstream)
    await asyncio.sleep(0)

    assert {name for name in set(sys.modules) - loaded if name.startswith("litellm")} == set()


async def test_nothing_is_logged_or_shown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    Neither errors nor logs carry a provider's words, its address, or names of deployments.
    """
    caplog.set_level(logging.DEBUG)
    await world.deploy("dead", ERROR_500)
    await world.deploy("backup", ERROR_500, model="backup")
    upstream = world.open(fallbacks={"smart": ["backup"]})

    errors = [await failed(upstream) for _ in range(3)]

    assert [str(error) for error in errors] == [
        "the provider did not answer",
        "the provider did not answer",
        "all deployments of the model are left out for now",
    ]
    assert [record for record in caplog.records if record.name.startswith("LiteLLM")] == []
