"""
A provider that costs next to nothing: it answers every request at once with the same bytes.

    python -m benchmarks.upstream

Prints its port. What it does, the path says:

- `POST …/v1/chat/completions`: an answer.
- `POST /stream/CHUNKS/PAUSE_MS/…`: a stream of that many pieces of content. Each event is written
  by itself, PAUSE_MS after the one before.
- `GET /calls`: how many requests to answer it has received, as a JSON number.
"""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import cast

import uvloop
from typing_extensions import override

from benchmarks.messages import ANSWER, end_of_message, events

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Calls:
    """Counts requests."""

    def __init__(self) -> None:
        self.received = 0


class Upstream(asyncio.Protocol):
    """One connection, with one request at a time."""

    _answer = _HEAD % len(ANSWER) + ANSWER

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._received = b""
        self._transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        if end_of_message(self._received) is None:
            return
        method, path, _ = self._received.split(b" ", 2)
        self._received = b""
        if method == b"GET":
            body = b"%d" % self._calls.received
            self._transport.write(_HEAD % len(body) + body)
            return
        self._calls.received += 1
        if path.startswith(b"/stream/"):
            _, _, chunks, pause_ms, _ = path.split(b"/", 4)
            self._write_next(writes(int(chunks)), 0, int(pause_ms) / 1000)
        else:
            self._transport.write(self._answer)

    def _write_next(self, pieces: Sequence[bytes], number: int, pause_s: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(pieces[number])
        number += 1
        if number < len(pieces):
            loop = asyncio.get_running_loop()
            loop.call_later(pause_s, self._write_next, pieces, number, pause_s)


@cache
def writes(chunks: int) -> Sequence[bytes]:
    """Return what is written for a stream, one by one: as many as it has events."""
    first, *rest = (b"%x\r\n%b\r\n" % (len(event), event) for event in events(chunks))
    return [_STREAM_HEAD + first, *rest[:-1], rest[-1] + b"0\r\n\r\n"]


async def serve() -> None:
    """Serve until the process is ended."""
    calls = Calls()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(calls), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
