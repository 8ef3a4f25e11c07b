"""
ASGI's side: slow and vanishing clients.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from relay_middleware.asgi import ClientGoneError, ClientWatch, DirectWatch, Responder, read_body
from relay_middleware.core.refusals import RefusedError
from relay_middleware.tasks import Patience

pytestmark = pytest.mark.anyio


class Client:
    """Sends prepared messages, then is silent."""

    def __init__(self, *messages: MutableMapping[str, Any]) -> None:
        self.messages = list(messages)

    async def receive(self) -> MutableMapping[str, Any]:
        if self.messages:
            return self.messages.pop(0)
        return await asyncio.Future()


def piece(body: bytes, *, more: bool) -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


PATIENCE = Patience(60)

GONE: MutableMapping[str, Any] = {"type": "http.disconnect"}


async def test_pieces_are_joined() -> None:
    """
    A body in three pieces is one body.
    """
    client = Client(piece(b"a", more=True), piece(b"b", more=True), piece(b"c", more=False))

    assert await read_body(client.receive, {}, PATIENCE, limit_bytes=3) == b"abc"


async def test_bound_is_inclusive() -> None:
    """
    Three bytes fit a bound of three, a fourth does not.
    """
    client = Client(piece(b"abc", more=True), piece(b"d", more=False))

    with pytest.raises(RefusedError, match="larger than 3 bytes"):
        await read_body(client.receive, {}, PATIENCE, limit_bytes=3)


async def test_body_that_stops_coming() -> None:
    """
    A client that sends half a body and waits is answered, so that it does not keep its place.
    """
    client = Client(piece(b"a", more=True))

    with pytest.raises(RefusedError) as refused:
        await read_body(client.receive, {}, Patience(0.01), limit_bytes=3)

    assert refused.value.refusal.status_code == 408


async def test_client_gone_in_its_body() -> None:
    """
    Who hangs up in the middle is gone, not refused.
    """
    with pytest.raises(ClientGoneError):
        await read_body(Client(piece(b"a", more=True), GONE).receive, {}, PATIENCE, limit_bytes=3)


async def test_a_watch_calls_once_and_only_while_it_is_asked_to() -> None:
    """
    The callback is called once when the client goes, at once if it has gone, and not afterwards.
    """
    calls: list[str] = []
    watch = ClientWatch(Client(GONE).receive)
    watch.when_gone(lambda: calls.append("early"))
    watch.when_gone(None)
    watch.mark_gone()
    watch.mark_gone()
    watch.when_gone(lambda: calls.append("late"))
    watch.when_gone(None)

    assert calls == ["late"]


class Server:
    """Has one client: its `receive` waits for an event, as uvicorn's does."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.messages: list[MutableMapping[str, Any]] = []
        self.is_waited_for = False

    async def receive(self) -> MutableMapping[str, Any]:
        self.is_waited_for = True
        try:
            await self.event.wait()
        finally:
            self.is_waited_for = False
        self.event.clear()
        return self.messages.pop(0) if self.messages else GONE


@pytest.mark.parametrize("kind", [ClientWatch, DirectWatch])
async def test_a_watch_hears_the_client_go(kind: type[ClientWatch]) -> None:
    """
    More of a body is no going; what comes then is, and is told once.
    """
    server, gone = Server(), asyncio.Event()
    server.messages.append(piece(b"a", more=False))
    watch = kind(server.receive)
    watch.when_gone(gone.set)
    watch.start()
    for _ in range(5):
        await asyncio.sleep(0)
    assert server.is_waited_for

    server.event.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not watch.is_gone
    server.event.set()
    await gone.wait()

    assert watch.is_gone
    assert not server.is_waited_for
    watch.stop()


@pytest.mark.parametrize("kind", [ClientWatch, DirectWatch])
@pytest.mark.parametrize("is_late", [False, True])
async def test_who_is_not_watched_any_more_does_not_go(
    kind: type[ClientWatch],
    is_late: bool,  # noqa: FBT001 - pytest's
) -> None:
    """
    A watch that was stopped hears nothing, also of what came in the same turn of the loop; nobody
    is waited for, and it is not asked again.
    """
    server = Server()
    watch = kind(server.receive)
    watch.start()
    for _ in range(5):
        await asyncio.sleep(0)
    if is_late:
        server.event.set()
    watch.stop()
    server.event.set()
    for _ in range(5):
        await asyncio.sleep(0)

    assert not watch.is_gone
    assert not server.is_waited_for


@pytest.mark.parametrize("kind", [ClientWatch, DirectWatch])
async def test_who_gives_the_body_again_and_again_is_not_listened_to_for_ever(
    kind: type[ClientWatch],
) -> None:
    """
    A host's `receive` that answers each call with the body, at once, stops nobody else: after ten
    times it is not asked any more, and would say at the thousandth that the client has gone.
    """
    asked = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal asked
        asked += 1
        return GONE if asked == 1000 else piece(b"a", more=False)

    watch = kind(receive)
    watch.start()
    for _ in range(5):
        await asyncio.sleep(0)

    assert (asked, watch.is_gone) == (10, False)
    watch.stop()


def test_a_direct_watch_may_find_that_the_client_has_gone_already() -> None:
    """
    A server that answers at once is not waited for.
    """
    watch = DirectWatch(Client(piece(b"a", more=False), GONE).receive)
    watch.start()

    assert watch.is_gone
    watch.stop()


@pytest.mark.parametrize("error", [OSError("gone"), TimeoutError()])
async def test_a_write_that_fails_means_gone(error: Exception) -> None:
    """
    A server that raises, or a client that takes nothing, ends the sending and nothing else.
    """
    sent: list[str] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])
        raise error

    watch = ClientWatch(Client().receive)
    responder = Responder(send, watch, PATIENCE)
    await responder.start(200, [])
    await responder.write(b"more", is_last=True)

    assert watch.is_gone
    assert sent == ["http.response.start"]


async def test_who_has_gone_was_sent_no_status() -> None:
    """
    Of an answer that comes after its client has gone no status is known: none was sent.
    """
    sent: list[str] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    watch = ClientWatch(Client().receive)
    watch.mark_gone()
    responder = Responder(send, watch, PATIENCE)
    await responder.start(200, [])

    assert (responder.status_code, sent) == (None, [])
