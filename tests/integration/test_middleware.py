"""
The middleware as an ASGI server sees it.
"""

import asyncio
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fixtures.world import CUSTOMER_HEADER, deployment, running, tiers
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from relay_middleware import ConfigurationError, Relay, RelayMiddleware, load_config
from relay_middleware.asgi import Receive, Scope, Send
from relay_middleware.composition import Parts
from relay_middleware.core.deployments import Deployment
from relay_middleware.ports.providers import StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.testing import FAKE_KEY, Simulator

pytestmark = pytest.mark.anyio

Message = MutableMapping[str, Any]


def new_relay(folder: Path, *, state: str = "state") -> Relay:
    config = {
        "model_list": [deployment("http://127.0.0.1:1")],
        "database_url": f"sqlite:///{folder}/relay.db",
        "state_dir": str(folder / state),
        **tiers(),
    }
    path = folder / "relay.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return Relay.from_config(load_config(path, environ={}))


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def lifespan(app: RelayMiddleware) -> list[Message]:
    """Open and close *app* as a server does; return what it said."""
    said: list[Message] = []
    to_say = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return to_say.pop(0)

    async def send(message: Message) -> None:
        said.append({**message, "ready": app.relay.is_ready})

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return said


async def test_lifespan_opens_and_closes(tmp_path: Path) -> None:
    """
    The relay is open when the application has started, and closed when it has ended.
    """
    app = RelayMiddleware(Starlette(), relay=new_relay(tmp_path))

    said = await lifespan(app)

    assert [(item["type"], item["ready"]) for item in said] == [
        ("lifespan.startup.complete", True),
        ("lifespan.shutdown.complete", False),
    ]


@pytest.mark.parametrize("way", ["raises at once", "raises when told", "returns"])
async def test_a_host_without_a_lifespan_of_its_own(tmp_path: Path, way: str) -> None:
    """
    Around an application that knows no lifespan, as Django's, the relay opens and closes all the
    same: else nothing would be drained at the end.
    """

    async def app(scope: Scope, receive: Receive, _: Send) -> None:
        if way == "raises when told":
            await receive()
        if way != "returns":
            raise ValueError(f"this application handles no {scope['type']}")

    relay = new_relay(tmp_path)
    to_say = ["lifespan.startup", "lifespan.shutdown"]
    seen: list[tuple[str, bool]] = []

    async def receive() -> Message:
        seen.append((to_say[0], relay.is_ready))
        return {"type": to_say.pop(0)}

    async def send(message: Message) -> None:
        seen.append((message["type"], relay.is_ready))

    await RelayMiddleware(app, relay=relay)({"type": "lifespan"}, receive, send)

    assert seen == [
        ("lifespan.startup", False),
        ("lifespan.startup.complete", True),
        ("lifespan.shutdown", True),
        ("lifespan.shutdown.complete", False),
    ]


async def test_failing_start_is_told_in_words(tmp_path: Path) -> None:
    """
    A second relay on the same embedded store does not start, and says why without a traceback.
    """
    first = new_relay(tmp_path)
    await first.start()

    (said,) = await lifespan(RelayMiddleware(Starlette(), relay=new_relay(tmp_path)))

    assert said["type"] == "lifespan.startup.failed"
    assert "set redis_url" in said["message"]
    assert "Traceback" not in said["message"]
    await first.aclose()
    await first.aclose()


async def test_two_folders_on_one_database_are_refused(tmp_path: Path) -> None:
    """
    A second relay with a folder of its own, on the database of the first, would have a store of its
    own: it does not start before the first has ended.
    """
    first, second = new_relay(tmp_path), new_relay(tmp_path, state="other")
    await first.start()

    with pytest.raises(ConfigurationError, match=r"with the database .*relay\.db.*set redis_url"):
        await second.start()
    await first.aclose()
    await second.start()

    await second.aclose()


async def test_who_asks_while_it_closes_opens_it_anew(tmp_path: Path) -> None:
    """
    A relay that is closing has an answer under way; one more request opens it after that, whole:
    its store is its own, so that a second relay does not start.
    """
    relay, answered = new_relay(tmp_path), asyncio.Event()
    await relay.start()
    relay.services.background.spawn(answered.wait())
    closing = asyncio.create_task(relay.aclose())
    await asyncio.sleep(0)
    asking = asyncio.create_task(relay.start())
    await asyncio.wait([asking], timeout=0.1)
    answered.set()
    await asyncio.gather(closing, asking)

    assert relay.is_ready
    with pytest.raises(ConfigurationError, match="another process uses the embedded store"):
        await new_relay(tmp_path).start()
    await relay.aclose()


async def test_host_keeps_its_routes(tmp_path: Path) -> None:
    """
    Below the prefix Relay answers, elsewhere the host, also mounted below a path, without lifespan.
    """
    relay = new_relay(tmp_path)
    inner = Starlette(routes=[Route("/hello", hello)])
    inner.add_middleware(RelayMiddleware, relay=relay, prefix="/llm/v1/")
    host = Starlette(routes=[Mount("/ai", inner), Route("/hello", hello)])
    transport = httpx.ASGITransport(app=host)

    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        texts = [(await client.get(path)).text for path in ("/hello", "/ai/hello")]
        relays = await client.get("/ai/llm/v1/models")

    assert texts == ["hello", "hello"]
    assert relays.json()["error"]["code"] == "invalid_api_key"
    await relay.aclose()


async def test_websockets_are_refused(tmp_path: Path) -> None:
    """
    A WebSocket below the prefix is closed before it is accepted.
    """
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    app = RelayMiddleware(Starlette(), relay=new_relay(tmp_path))
    await app({"type": "websocket", "path": "/v1/realtime", "headers": []}, receive, send)

    assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_relay_has_one_event_loop(tmp_path: Path) -> None:
    """
    Opened in one loop and used in another it is refused in words.
    """
    relay = new_relay(tmp_path)
    asyncio.run(relay.start())

    async def use() -> None:
        await relay.handle({"type": "http"}, None, None, path="models")  # type: ignore[arg-type]  # not reached

    with pytest.raises(ConfigurationError, match="one Relay for each loop"):
        asyncio.run(use())
    asyncio.run(relay.aclose())


def test_a_closed_relay_is_not_opened_by_another_loop(tmp_path: Path) -> None:
    """
    Opened and closed in one loop, and opened in another, it is refused in words: its way to the
    ledger waits for an event of the first.
    """
    relay = new_relay(tmp_path)

    async def open_and_close() -> None:
        await relay.start()
        await asyncio.sleep(0)
        await relay.aclose()

    asyncio.run(open_and_close())

    with pytest.raises(ConfigurationError, match="one Relay for each loop"):
        asyncio.run(open_and_close())


class BrokenUpstream:
    """A bug: raises what nobody expects, with a provider's text in it."""

    def __init__(self, deployments: tuple[Deployment, ...]) -> None:
        self._deployments = deployments

    def reachable(self, _: str) -> tuple[Deployment, ...]:
        return self._deployments

    async def send(self, call: UpstreamCall) -> WholeAnswer | StreamAnswer:
        call.on_sent(self._deployments[0])
        raise RuntimeError(f"provider says {FAKE_KEY}")

    async def aclose(self) -> None:
        pass


async def test_a_bug_is_a_500_that_leaves_no_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The client gets an envelope, the log the place and not the text, and the hold is settled.
    """

    def change(parts: Parts) -> Parts:
        upstream = BrokenUpstream(parts.upstream.reachable("smart"))
        return replace(parts, services=replace(parts.services, upstream=upstream))

    config = {"model_list": [deployment("http://127.0.0.1:1")], **tiers()}
    async with running(tmp_path, config, Simulator(), change=change) as world:
        answer = await world.post()
        (row,) = await world.ledger()

    printed = capsys.readouterr().out
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["x-relay-customer"] == "alice"
    assert CUSTOMER_HEADER not in answer.headers
    assert "request_failed" in printed
    assert "RuntimeError" in printed
    assert FAKE_KEY not in printed + answer.text
    assert (row["state"], row["usage_source"]) == ("settled", "counted")
