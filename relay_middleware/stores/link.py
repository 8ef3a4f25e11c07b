"""
One connection to Redis that all callers share, from when it is made until it is lost.

Rules for editors. Replies come in the order of the commands, and do not say which one they answer.
So a command that was written stays in the queue until its reply has come, whether or not anybody
still waits for it; and where a reply is missing, or there is one too many, the connection can only
be closed. What of it is tried again is decided in `multiplexed.py`.

Source: Redis's protocol, version 2, which every connection speaks that has not asked for another
(redis.io, "Redis serialization protocol specification", read 2026-11-25).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import hiredis
from typing_extensions import override

MAX_UNANSWERED = 512
"""Written and not answered: Redis is busy with them for some 30 ms, far from a time-out, which
would tell of a queue of ours and not of Redis."""

SILENCE_S = 1.0
"""A connection that owes a reply, which is late, and says nothing for so long is closed: its other
end may be gone without a word. A Redis that is held up for less keeps it."""

SECOND_LOOK_S = 0.001
"""After a command's time is up, until it is given up."""

_INCOMPLETE = object()


@dataclass(slots=True, eq=False)
class Command:
    """
    A command and the reply to it.

    Attributes:
        data: As it is written.
        reply: What Redis answers, of whatever type, refusals included.
        since_s: The loop's time at which it began to wait: for its turn, then for its reply.
    """

    data: bytes
    reply: asyncio.Future[Any]
    since_s: float


class Link(asyncio.Protocol):
    """
    A connection.

    Attributes:
        is_lost: Whether it has ended; whether what it had written took effect is then unknown.
    """

    def __init__(self, *, timeout_s: float, on_change: Callable[[], None]) -> None:
        """
        Args:
            timeout_s: Longest wait for a reply, from when its command is written.
            on_change: Called when there may be room again, when a reply is late, and when the
                connection is lost.
        """  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._on_change = on_change
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._unanswered: deque[Command] = deque()
        self._heard_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_full = False
        self._transport: asyncio.Transport
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self.is_lost = False

    @property
    def room(self) -> int:
        """How many commands may be written now."""
        return 0 if self.is_lost or self._is_full else MAX_UNANSWERED - len(self._unanswered)

    def write(self, commands: Sequence[Command]) -> None:
        """Write *commands*, in one piece. They are answered, late, or lost: never forgotten."""
        now_s = self._loop.time()
        for command in commands:
            command.since_s = now_s
        self._unanswered.extend(commands)
        if self._timer is None:
            self._look_at(now_s + self._timeout_s)
        self._transport.write(b"".join([command.data for command in commands]))

    async def aclose(self, error: Exception) -> None:
        """Close it; what is not answered fails with *error*."""
        self._lose(error)
        await self._closed

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What uvloop gives is none by its class.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._heard_at_s = self._loop.time()
        reader, unanswered = self._reader, self._unanswered
        reader.feed(data)
        try:
            while (reply := reader.gets()) is not _INCOMPLETE:
                if not unanswered:
                    self._lose(hiredis.ProtocolError("a reply that nobody has asked for"))
                    return
                future = unanswered.popleft().reply
                if not future.done():
                    future.set_result(reply)
        except hiredis.ProtocolError as error:
            self._lose(error)
            return
        self._on_change()

    @override
    def pause_writing(self) -> None:
        self._is_full = True

    @override
    def resume_writing(self) -> None:
        self._is_full = False
        self._on_change()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(ConnectionResetError("the connection was closed"))
        self._closed.set_result(None)

    def _look_at(self, at_s: float) -> None:
        self._timer = self._loop.call_at(at_s, self._doubt)

    def _doubt(self) -> None:
        # Where the loop was held up, the reply may have come, and timers go before it: uvloop's do.
        at_s = self._loop.time()
        self._timer = self._loop.call_later(SECOND_LOOK_S, self._give_up, at_s)

    def _give_up(self, at_s: float) -> None:
        """Fail the commands whose time was up at *at_s*."""
        self._timer = None
        if not self._unanswered:
            return
        silent_at_s = max(self._heard_at_s, self._unanswered[0].since_s) + SILENCE_S
        if silent_at_s <= at_s:
            self._lose(TimeoutError("silence"))
            return
        # Of a command that is written from now on, if there is none yet.
        late_at_s = at_s + self._timeout_s
        for command in self._unanswered:
            if command.since_s + self._timeout_s > at_s:
                late_at_s = command.since_s + self._timeout_s
                break
            if not command.reply.done():
                command.reply.set_exception(TimeoutError("no reply in time"))
        self._look_at(min(late_at_s, silent_at_s))
        self._on_change()

    def _lose(self, error: Exception) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        for command in self._unanswered:
            if not command.reply.done():
                command.reply.set_exception(error)
        self._unanswered.clear()
        self._transport.abort()
        self._on_change()
