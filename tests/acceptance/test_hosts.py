"""
Host applications: the examples, each on a socket, with Relay mounted in it.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import openai
import pytest
from fixtures.world import CUSTOMER_HEADER, World, deployment, running, tiers
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from examples import fastapi_app, host_with_v1, starlette_mounted
from relay_middleware import RefusedError, Relay, RelayMiddleware, load_config
from relay_middleware.asgi import ASGIApp
from relay_middleware.core.keys import KeyRight
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

BEHAVIOUR = Behaviour(input_tokens=10, cached_input_tokens=0, output_tokens=20, text="hello world")

CHARGE = 10 * 150 + 20 * 600
"""gpt-4o-mini: $0.15 and $0.60 a million tokens, in nano-dollars: 13,500, or 0.00135 cents."""

ADA = {"Cookie": "session=session-of-ada"}
FORGED = {CUSTOMER_HEADER: "cust_victim"}


@asynccontextmanager
async def hosting(
    folder: Path, make_app: Callable[[Relay], ASGIApp], **tier: object
) -> AsyncIterator[World]:
    """Serve a host application, whose relay is left to open by itself."""
    simulator = Simulator()
    async with simulator.serve() as provider:
        models = [
            deployment(provider),
            deployment(provider, name="vectors", model="text-embedding-3-small"),
        ]
        config = {"model_list": models, **tiers(default_model="smart", **tier)}
        simulator.set("live", BEHAVIOUR)
        make = partial(_made, make_app)
        async with running(folder, config, simulator, make_app=make, is_started=False) as world:
            yield world


def _made(make_app: Callable[[Relay], ASGIApp], relay: Relay, _: object) -> ASGIApp:
    return make_app(relay)


@pytest.fixture(name="fastapi")
async def _fastapi(tmp_path: Path) -> AsyncIterator[World]:
    async with hosting(tmp_path, fastapi_app.create_app) as world:
        yield world


async def bills(world: World) -> list[tuple[object, object, object]]:
    """Return customer, key and charge of every request in the ledger."""
    return [
        (row["customer_id"], row["api_key_id"], row["charge_nano_usd"])
        for row in await world.ledger()
    ]


async def test_calls_of_a_handler_are_totalled(fastapi: World) -> None:
    """
    Two calls for 0.00135 cents each: the response says 0.0027 and is the host's own, a forged
    customer header beside the session changes nothing.
    """
    response = await fastapi.http.get(
        f"{fastapi.url}/summary", params={"text": "Hallo"}, headers=ADA | FORGED
    )

    assert response.json() == {"summary": "hello world"}
    told = {name: text for name, text in response.headers.items() if name.startswith("x-relay")}
    assert told == {
        "x-relay-customer": "cust_ada",
        "x-relay-calls": "2",
        "x-relay-cost-cents": "0.0027",
        "x-relay-input-tokens": "20",
        "x-relay-output-tokens": "40",
        "x-relay-spend-remaining-cents": "99.9973",
    }
    assert await bills(fastapi) == [("cust_ada", "host", CHARGE)] * 2


async def test_a_stream_within_a_stream(fastapi: World) -> None:
    """
    A handler streams on what Relay streams to it, piece by piece; the charge is in the ledger only,
    because the headers are out when it is known.
    """
    fastapi.simulator.set("live", Behaviour(text="a b c d e f", chunk_tokens=1, chunk_delay_s=0.01))
    async with fastapi.http.stream("GET", f"{fastapi.url}/story", headers=ADA) as response:
        pieces = [piece async for piece in response.aiter_text()]

    assert "".join(pieces) == "a b c d e f"
    assert len(pieces) > 1
    assert "x-relay-cost-cents" not in response.headers
    ((customer, _, charge),) = await bills(fastapi)
    assert (customer, charge != 0) == ("cust_ada", True)


async def test_the_openai_client_in_process(fastapi: World) -> None:
    """
    The client reaches every endpoint, embeddings too: 10 tokens at $0.02 a million are 200
    nano-dollars.
    """
    response = await fastapi.http.get(
        f"{fastapi.url}/vector", params={"text": "Hallo"}, headers=ADA
    )

    assert response.json()["dimensions"] > 1
    assert response.headers["x-relay-cost-cents"] == "0.00002"
    assert await bills(fastapi) == [("cust_ada", "host", 200)]


async def test_a_background_task_is_charged(fastapi: World) -> None:
    """
    A call made after the response was sent is the same customer's.
    """
    response = await fastapi.http.post(f"{fastapi.url}/reports", headers=ADA)

    assert (response.status_code, response.json()) == (202, {"status": "accepted"})
    while not (billed := await bills(fastapi)):
        pass
    assert billed == [("cust_ada", "host", CHARGE)]


@pytest.mark.parametrize(
    ("path", "status"), [("/teapot", 418), ("/openapi.json", 200), ("/nowhere", 404)]
)
async def test_host_routes_stay_what_they_are(fastapi: World, path: str, status: int) -> None:
    """
    The host's own errors, pages and missing pages pass through, without a header of Relay's.
    """
    response = await fastapi.http.get(f"{fastapi.url}{path}")

    assert response.status_code == status
    assert not [name for name in response.headers if name.startswith("x-relay")]


async def test_openais_api_beside_the_host(fastapi: World) -> None:
    """
    Below the prefix the application is a proxy: the real client, with a key, for any customer.
    """
    async with fastapi.client("cust_bob") as client:
        answer = await client.chat.completions.create(
            model="smart", messages=[{"role": "user", "content": "Hi"}]
        )

    assert answer.choices[0].message.content == "hello world"
    ((customer, key, charge),) = await bills(fastapi)
    assert (customer, key != "host", charge) == ("cust_bob", True, CHARGE)


@pytest.mark.parametrize(
    "headers",
    [{}, FORGED, FORGED | {"Authorization": "Bearer a-token-of-the-host"}],
    ids=["nothing", "header", "host's own token"],
)
async def test_forged_headers_do_not_bill(fastapi: World, headers: dict[str, str]) -> None:
    """
    Without a session and a Relay key, a customer header is nobody's word: 400, no provider call.
    """
    response = await fastapi.http.get(
        f"{fastapi.url}/summary", params={"text": "Hallo"}, headers=headers
    )

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "customer_required"
    assert "customer=" in response.json()["error"]["message"]
    assert fastapi.simulator.calls() == 0


async def test_mounted_below_a_path_without_lifespan(tmp_path: Path) -> None:
    """
    The relay opens at the first request. Relay's paths lie below the mount, and a key that may
    name customers is believed on host routes, whichever of the two headers carries it.
    """
    async with hosting(tmp_path, starlette_mounted.create_app) as world:
        get = partial(world.http.get, params={"question": "Why?"})
        home = await world.http.get(f"{world.url}/")
        assert (home.text, world.relay.is_ready) == ("home", False)
        key = {"Authorization": f"Bearer {world.secret}"}
        other = {"X-ModelRelay-Api-Key": world.secret, "Authorization": "Bearer of-the-host"}
        for sent in (key, other):
            answer = await get(f"{world.url}/assistant/answer", headers=sent | FORGED)
            assert (answer.status_code, answer.text) == (200, "hello world")
        models = await world.http.get(f"{world.url}/assistant/v1/models", headers=key)
        assert [model["id"] for model in models.json()["data"]] == ["smart", "vectors"]
        assert (await world.http.get(f"{world.url}/v1/models", headers=key)).status_code == 404
        assert await bills(world) == [("cust_victim", "host", CHARGE)] * 2


async def test_keys_on_host_routes(tmp_path: Path) -> None:
    """
    A key bound to a customer bills that one and may name no other; an unknown key is refused.
    """
    async with hosting(tmp_path, starlette_mounted.create_app) as world:
        await world.relay.start()
        _, bound = await world.new_key(KeyRight.CUSTOMER, "cust_bound")

        async def ask(secret: str, **headers: str) -> httpx.Response:
            return await world.http.get(
                f"{world.url}/assistant/answer",
                params={"question": "Why?"},
                headers={"Authorization": f"Bearer {secret}", **headers},
            )

        assert (await ask(bound)).status_code == 200
        other = await ask(bound, **FORGED)
        assert (other.status_code, other.json()["error"]["code"]) == (403, "customer_forbidden")
        unknown = await ask("mr_sk_unknown", **FORGED)
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "invalid_api_key")
        assert unknown.headers["www-authenticate"] == "Bearer"
        nobody = await ask(world.secret)
        assert nobody.json()["error"]["code"] == "customer_required"
        assert await bills(world) == [("cust_bound", "host", CHARGE)]


async def test_host_with_a_v1_of_its_own(tmp_path: Path) -> None:
    """
    The host keeps its /v1, Relay serves /relay/v1, and behind a gateway the header is believed.
    """
    async with hosting(tmp_path, host_with_v1.create_app) as world:
        cars = await world.http.get(f"{world.url}/v1/models")
        key = {"Authorization": f"Bearer {world.secret}"}
        models = await world.http.get(f"{world.url}/relay/v1/models", headers=key)
        compared = await world.http.get(f"{world.url}/v1/comparison", headers=FORGED)

        assert cars.json() == ["roadster", "estate"]
        assert models.json()["object"] == "list"
        assert compared.json() == ["hello world", "hello world"]
        assert compared.headers["x-relay-calls"] == "2"
        assert await bills(world) == [("cust_victim", "host", CHARGE)] * 2


async def test_refusal_that_escapes_becomes_the_response(tmp_path: Path) -> None:
    """
    The first call costs 96,150 of 100,000 nano-dollars (160 tokens although one was asked for),
    the second is refused: 402 with Relay's envelope, and the cost of the first in the headers.
    A task group around it changes nothing, and a handler that catches it answers as it likes.
    """
    limit = {"spend_limits": [{"cents": "0.01", "per": "day"}], "max_output_tokens": 1}
    async with hosting(tmp_path, fastapi_app.create_app, **limit) as world:
        world.simulator.set("live", replace(BEHAVIOUR, input_tokens=1, output_tokens=160))
        refused = await world.http.get(f"{world.url}/summary", params={"text": "x"}, headers=ADA)

        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (402, "spend_limit_exceeded")
        assert refused.headers["x-should-retry"] == "false"
        assert refused.headers["x-relay-cost-cents"] == "0.009615"
    (tmp_path / "other").mkdir()
    async with hosting(
        tmp_path / "other", host_with_v1.create_app, spend_limits=[{"cents": 0, "per": "day"}]
    ) as world:
        grouped = await world.http.get(f"{world.url}/v1/comparison", headers=FORGED)
        caught = await world.http.get(f"{world.url}/v1/models/roadster", headers=FORGED)
        assert grouped.status_code == 402
        assert caught.json() == {"text": None, "why": grouped.json()["error"]["code"]}
        assert world.simulator.calls() == 0


def one_route(endpoint: Callable[[Request], object]) -> Callable[[Relay], ASGIApp]:
    """A host with one page."""

    def make(relay: Relay) -> ASGIApp:
        app = Starlette(routes=[Route("/", endpoint)])
        app.add_middleware(RelayMiddleware, relay=relay, customer=lambda _: "cust_ada")
        return app

    return make


async def test_refusal_by_the_openai_client_escapes_alike(tmp_path: Path) -> None:
    """
    What `openai` raises of Relay's refusal is Relay's refusal; of another server it is not.
    """

    async def page(request: Request) -> None:
        await request.state.relay.openai().models.retrieve("no-such-model")

    async def foreign(_: Request) -> None:
        other = httpx.Response(402, request=httpx.Request("GET", "https://api.example.com/"))
        raise openai.APIStatusError("theirs", response=other, body=None)

    async with hosting(tmp_path, one_route(page)) as world:
        response = await world.http.get(world.url)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    async with hosting(tmp_path, one_route(foreign)) as world:
        assert (await world.http.get(world.url)).status_code == 500


async def test_refusal_after_the_first_byte_ends_the_connection(tmp_path: Path) -> None:
    """
    What was sent cannot become another response: the body ends without an end.
    """

    async def page(request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield "begun"
            yield await request.state.relay.text("x", "y", model="no-such-model")

        return StreamingResponse(body())

    async with hosting(tmp_path, one_route(page)) as world:
        with pytest.raises(httpx.RemoteProtocolError):
            await world.http.get(world.url)


async def test_who_stops_reading_is_charged_for_what_came(tmp_path: Path) -> None:
    """
    A handler that takes one chunk and leaves, and one whose call is cut off when the provider has
    got it, leave no hold behind: both answers are read to their end and charged.
    """

    async def page(request: Request) -> PlainTextResponse:
        calls = request.state.relay
        async with await calls.chat(messages=[{"role": "user", "content": "x"}], stream=True) as it:
            await anext(aiter(it))
        asking = asyncio.create_task(calls.text("x", "y"))
        await asyncio.to_thread(world.simulator.wait_for_calls, 2)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return PlainTextResponse("left")

    async with hosting(tmp_path, one_route(page)) as world:
        world.simulator.set(
            "live",
            replace(BEHAVIOUR, text="a b c", chunk_tokens=1, chunk_delay_s=0.1, latency_s=0.3),
        )
        assert (await world.http.get(world.url)).text == "left"
        assert await bills(world) == [("cust_ada", "host", CHARGE)] * 2


async def test_calls_outside_of_a_request(tmp_path: Path) -> None:
    """
    A program names the customer itself; a name that is none is refused before anything is sent.
    """

    async def page(request: Request) -> PlainTextResponse:
        relay: Relay = request.app.state.engine
        return PlainTextResponse(await relay.text_for_customer("cust_job", "Be brief.", "Why?"))

    def make(relay: Relay) -> ASGIApp:
        app = Starlette(routes=[Route("/", page)])
        app.state.engine = relay
        return app

    async with hosting(tmp_path, make) as world:
        assert (await world.http.get(world.url)).text == "hello world"
        assert await bills(world) == [("cust_job", "host", CHARGE)]
        with pytest.raises(RefusedError, match="customer_id holds"):
            await world.relay.text_for_customer('{"a": 1}', "x", "y")


async def test_second_process_of_a_host_is_refused(tmp_path: Path) -> None:
    """
    A second process with the embedded store would double every limit: it does not start, and says
    why in words. Mounted, where nothing can fail at start, it answers 503 below the prefix.
    """
    async with hosting(tmp_path, fastapi_app.create_app) as world:
        await world.relay.start()
        second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "--factory", "examples.fastapi_app:create_app"),
            *("--port", "0"),
            env={**os.environ, "RELAY_CONFIG": str(tmp_path / "relay.yaml")},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await second.communicate()
        assert second.returncode == 3
        assert b"set redis_url" in said
        assert b"Traceback" not in said

        other = Relay.from_config(load_config(tmp_path / "relay.yaml", environ={}))
        transport = httpx.ASGITransport(app=starlette_mounted.create_app(other))
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            answer = await client.get("/assistant/v1/models")
        assert (answer.status_code, answer.json()["error"]["code"]) == (
            503,
            "enforcement_unavailable",
        )
        await other.aclose()
