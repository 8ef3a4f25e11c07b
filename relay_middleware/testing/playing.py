"""
Playing: do what a script says on one ASGI connection, and notice when the client goes away.
"""

import asyncio
from collections.abc import Iterable
from enum import Enum
from typing import assert_never

from starlette.types import Receive, Scope, Send

from relay_middleware.testing.script import Cut, End, Start, Step, Wait, Write

CUT_EXTENSION = "relay.simulator.cut"
"""Name of the ASGI extension that closes a connection: `{"close": callable}`. ASGI itself has no
way to leave a body without its end."""


class Ending(Enum):
    """How an answer ended."""

    FINISHED = "finished"
    CUT = "cut"
    CLIENT_GONE = "client_gone"


class CannotCutError(Exception):
    """The server has not the extension that cuts connections; `Simulator.serve` has it."""


class _Client:
    """Whether the client is still there; the request's body must have been received."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None

    async def is_gone_after(self, silence_s: float | None) -> bool:
        """Be silent for *silence_s* (None: for ever), less if the client goes away; True if so."""
        # Made at the first silence: an answer at once needs no task.
        if self._watch is None:
            self._watch = asyncio.create_task(self._until_disconnect())
        if silence_s == 0:
            await asyncio.sleep(0)
        else:
            await asyncio.wait({self._watch}, timeout=silence_s)
        return self._watch.done()

    def forget(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            self._watch.cancel()

    async def _until_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def play(steps: Iterable[Step], scope: Scope, receive: Receive, send: Send) -> Ending:
    """
    Go through *steps*; stops at the first one after the client has gone.

    Raises:
        CannotCutError: A step cuts, and the server cannot.
    """
    client = _Client(receive)
    try:
        for step in steps:
            match step:
                case Start(status, headers):
                    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
                    await send({"type": "http.response.start", "status": status, "headers": raw})
                case Write(body):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                case Wait(silence_s):
                    if await client.is_gone_after(silence_s):
                        return Ending.CLIENT_GONE
                case Cut():
                    _close(scope)
                    await client.is_gone_after(None)
                    return Ending.CUT
                case End():
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                case _:
                    assert_never(step)
    finally:
        client.forget()
    return Ending.FINISHED


def _close(scope: Scope) -> None:
    extension = scope.get("extensions", {}).get(CUT_EXTENSION)
    if extension is None:
        raise CannotCutError(f"this server has not the ASGI extension {CUT_EXTENSION!r}")
    extension["close"]()
