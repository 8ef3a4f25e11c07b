"""
One connection that all share, against a peer that answers when the test wants it.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hiredis
import pytest

from relay_middleware.stores import link as module
from relay_middleware.stores.link import Command, Link

pytestmark = pytest.mark.anyio

PATIENT_S = 10.0
HASTY_S = 0.02


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """
    Both loops that Relay is served by: they differ in when timers run, and when bytes are read.
    """
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@dataclass(slots=True, kw_only=True)
class Wire:
    """
    Attributes:
        peer: The other end of *link*.
        changes: What room there was, each time that it said that something had changed.
        changed: Set by it.
        asked: All replies that were asked for.
    """

    link: Link
    peer: socket.socket
    changes: list[int]
    changed: asyncio.Event
    asked: list[asyncio.Future[object]] = field(default_factory=list)

    def ask(self, *words: str) -> list[asyncio.Future[object]]:
        """Write each of *words* as a command, together."""
        loop = asyncio.get_running_loop()
        commands = [Command(word.encode(), loop.create_future(), 0.0) for word in words]
        self.link.write(commands)
        replies = [command.reply for command in commands]
        self.asked += replies
        return replies

    async def read(self, count: int) -> bytes:
        """Return the next *count* bytes that the peer gets."""
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < count:
            data += await loop.sock_recv(self.peer, count - len(data))
        return data


@asynccontextmanager
async def connected(timeout_s: float = PATIENT_S) -> AsyncIterator[Wire]:
    """A connection on whose replies is waited for *timeout_s*."""
    loop = asyncio.get_running_loop()
    changes: list[int] = []
    changed = asyncio.Event()

    def note() -> None:
        changes.append(link.room)
        changed.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        _, link = await loop.create_connection(
            lambda: Link(timeout_s=timeout_s, on_change=note),
            *server.getsockname(),
        )
        peer, _ = server.accept()
    with peer:
        peer.setblocking(False)  # noqa: FBT003 - its only form
        wire = Wire(link=link, peer=peer, changes=changes, changed=changed)
        yield wire
        await link.aclose(ConnectionAbortedError("the test is over"))
        await outcomes(wire.asked)


async def outcomes(replies: Sequence[asyncio.Future[object]]) -> list[object]:
    """Return what came of *replies*: what was answered, or the type of the error."""
    found = await asyncio.gather(*replies, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else each for each in found]


async def test_replies_come_in_the_order_of_commands() -> None:
    """
    Three commands are written at once, and each gets its own reply, a refusal and nothing included.
    """
    async with connected() as wire:
        replies = wire.ask("a", "b", "c")
        assert await wire.read(3) == b"abc"
        wire.peer.sendall(b"$1\r\nA\r\n-ERR no\r\n$-1\r\n")

        first, refusal, nothing = await asyncio.gather(*replies)

    assert (first, nothing) == (b"A", None)
    assert isinstance(refusal, hiredis.ReplyError)


async def test_replies_may_come_in_pieces() -> None:
    """
    Wherever the network cuts two replies, they are the same.
    """
    text = b"*2\r\n:1\r\n$3\r\nabc\r\n+OK\r\n"
    async with connected() as wire:
        for cut in range(1, len(text)):
            replies = wire.ask("a", "b")
            for piece in (text[:cut], text[cut:]):
                wire.changed.clear()
                wire.peer.sendall(piece)
                await wire.changed.wait()

            assert await asyncio.gather(*replies) == [[1, b"abc"], b"OK"]


async def test_a_late_reply_is_thrown_away() -> None:
    """
    A command has waited in vain; its reply, which comes later, is not the next one's.
    """
    async with connected(HASTY_S) as wire:
        assert await outcomes(wire.ask("late")) == [TimeoutError]
        (next_reply,) = wire.ask("next")
        wire.peer.sendall(b"+late\r\n+next\r\n")

        assert await next_reply == b"next"


async def test_a_reply_that_nobody_waits_for_is_thrown_away() -> None:
    """
    A caller is cancelled after its command was written: the next one's reply is its own.
    """
    async with connected() as wire:
        gone, staying = wire.ask("gone", "staying")
        gone.cancel()
        wire.peer.sendall(b"+gone\r\n+staying\r\n")

        assert await staying == b"staying"


async def test_each_command_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The second is written when the first is given up, and is given up by itself, long before the
    connection is.
    """
    monkeypatch.setattr(module, "SILENCE_S", PATIENT_S)
    async with connected(HASTY_S) as wire:
        (first,) = wire.ask("first")
        assert await outcomes([first]) == [TimeoutError]
        (second,) = wire.ask("second")
        assert not second.done()

        async with asyncio.timeout(PATIENT_S / 2):
            assert await outcomes([second]) == [TimeoutError]
        assert not wire.link.is_lost


class Busy(asyncio.Protocol):
    """Keeps the loop busy when something comes, after it has let *reply* be sent."""

    def __init__(self, peer: socket.socket, reply: bytes, *, busy_s: float) -> None:
        self._peer = peer
        self._reply = reply
        self._busy_s = busy_s

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - the protocol's
        loop = asyncio.get_running_loop()
        busy_until_s = loop.time() + self._busy_s
        self._peer.sendall(self._reply)
        while loop.time() < busy_until_s:
            pass


async def test_a_reply_that_came_while_the_loop_was_held_up_is_not_late() -> None:
    """
    Another connection keeps the loop busy until after the time-out of a command that was answered
    at once: its reply counts, although uvloop runs timers before it reads.
    """
    loop = asyncio.get_running_loop()
    async with connected(HASTY_S) as wire:
        with socket.create_server(("127.0.0.1", 0)) as server:
            other, _ = await loop.create_connection(
                lambda: Busy(wire.peer, b"+OK\r\n", busy_s=2 * HASTY_S), *server.getsockname()
            )
            other_peer, _ = server.accept()
        with other_peer:
            (reply,) = wire.ask("a")
            other_peer.sendall(b"x")

            assert await reply == b"OK"
            other.abort()


async def test_silence_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The peer is gone without a word: when a reply is late and the silence that is allowed is over,
    the connection is closed.
    """
    monkeypatch.setattr(module, "SILENCE_S", 3 * HASTY_S)
    async with connected(HASTY_S) as wire:
        assert await outcomes(wire.ask("a", "b")) == [TimeoutError] * 2
        assert not wire.link.is_lost
        while not wire.link.is_lost:
            wire.changed.clear()
            await wire.changed.wait()

        assert wire.changes[-1] == 0


async def test_silence_begins_with_the_last_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of two replies, long late, one comes: from then on the peer is silent, and not before.
    """
    monkeypatch.setattr(module, "SILENCE_S", 5 * HASTY_S)
    loop = asyncio.get_running_loop()
    heard_at_s = []
    async with connected(HASTY_S) as wire:

        def answer() -> None:
            heard_at_s.append(loop.time())
            wire.peer.sendall(b"+A\r\n")

        replies = wire.ask("a", "b")
        loop.call_later(3 * HASTY_S, answer)
        assert await outcomes(replies) == [TimeoutError] * 2
        while not wire.link.is_lost:
            wire.changed.clear()
            await wire.changed.wait()

        assert loop.time() - heard_at_s[0] >= 5 * HASTY_S


async def test_an_end_fails_all_who_wait() -> None:
    """
    The peer closes after one of three replies: the two others are unknown, and there is no room.
    """
    async with connected() as wire:
        replies = wire.ask("a", "b", "c")
        assert await wire.read(3) == b"abc"
        wire.peer.sendall(b"+A\r\n")
        wire.peer.close()

        assert await outcomes(replies) == [b"A", ConnectionResetError, ConnectionResetError]
        assert (wire.link.is_lost, wire.link.room) == (True, 0)


@pytest.mark.parametrize("text", [b"?\r\n", b"+A\r\n+B\r\n"], ids=["nonsense", "one-too-many"])
async def test_a_peer_that_is_no_redis_is_left(text: bytes) -> None:
    """
    After what is no reply, or a reply that nobody asked for, nothing on the connection can be
    believed: it is closed.
    """
    async with connected() as wire:
        replies = wire.ask("a")
        wire.peer.sendall(text)
        await asyncio.wait(replies)
        await wire.changed.wait()

        assert wire.link.is_lost


async def test_only_so_many_are_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of four places two are taken, then one reply comes: room for three, and that is told.
    """
    monkeypatch.setattr(module, "MAX_UNANSWERED", 4)
    async with connected() as wire:
        replies = wire.ask("a", "b")
        assert wire.link.room == 2
        wire.peer.sendall(b"+A\r\n")
        await replies[0]

        assert wire.changes == [3]


async def test_a_peer_that_does_not_read_is_not_written_to() -> None:
    """
    A command of 32 MB, more than the machine's buffers hold: no room until it has been read.
    """
    text = "x" * 2**25
    async with connected() as wire:
        wire.ask(text)
        assert wire.link.room == 0

        await wire.read(len(text))
        await wire.changed.wait()

    assert wire.changes[:1] == [module.MAX_UNANSWERED - 1]
