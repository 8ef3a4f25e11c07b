"""
How `relay serve` writes answers: byte for byte as uvicorn does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from proxy_app.answering import QuickCycle, QuickProtocol

pytestmark = pytest.mark.anyio

Send = Callable[[dict[str, Any]], Awaitable[None]]
Pairs = Sequence[tuple[bytes, bytes]]

DATE = (b"date", b"Wed, 25 Nov 2026 10:00:00 GMT")
JSON = (b"content-type", b"application/json")
POST = b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n"


class Application:
    """
    Answers with what it was made with; `sends` are the callables it was given.
    """

    def __init__(
        self, status: int, headers: Pairs, pieces: Sequence[bytes], *, requests: int = 1
    ) -> None:
        self._opening = {"type": "http.response.start", "status": status, "headers": headers}
        self._pieces = pieces
        self._requests = requests
        self.sends: list[Any] = []
        self.has_served = asyncio.Event()

    async def __call__(self, _: object, __: object, send: Send) -> None:
        self.sends.append(send)
        try:
            await self._answer(send)
        finally:
            if len(self.sends) == self._requests:
                self.has_served.set()

    async def _answer(self, send: Send) -> None:
        await send(self._opening)
        for number, piece in enumerate(self._pieces, start=1):
            is_last = number == len(self._pieces)
            await send({"type": "http.response.body", "body": piece, "more_body": not is_last})


async def answer_of(
    protocol: type[HttpToolsProtocol], application: Application, request: bytes
) -> bytes:
    """Return all that is answered to *request*, after which the connection is closed."""
    config = uvicorn.Config(application, log_config=None, access_log=False, lifespan="off")  # type: ignore[arg-type]
    state = ServerState()
    state.default_headers = [DATE]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request)
        await application.has_served.wait()
        for connection in state.connections:
            connection.shutdown()
        answer = await reader.read()
        writer.close()
    return answer


@pytest.mark.parametrize(
    ("status", "headers", "pieces"),
    [
        (200, [(b"content-length", b"2"), JSON, (b"x-relay-cost-cents", b"0.1")], [b"{}"]),
        (200, [JSON, (b"content-length", b"4")], [b"ab", b"cd"]),
        (402, [(b"content-length", b"0"), (b"x-a", b"1"), (b"x-a", b"\xe9")], [b""]),
        (200, [(b"content-type", b"text/event-stream")], [b"data: 1\n\n", b"data: 2\n\n"]),
        (200, [(b"transfer-encoding", b"chunked")], [b"ab"]),
        (200, [(b"content-length", b"2"), (b"connection", b"close")], [b"ab"]),
        (204, [], [b""]),
        (599, [(b"content-length", b"0")], [b""]),
    ],
    ids=["whole", "pieces", "twice", "stream", "chunked", "closed", "nothing", "unnamed"],
)
@pytest.mark.parametrize("request_", [POST, POST.replace(b"1.1", b"1.0"), b"HEAD" + POST[4:]])
async def test_bytes_are_uvicorns(
    status: int, headers: Pairs, pieces: Sequence[bytes], request_: bytes
) -> None:
    """
    Whatever is answered, to HTTP/1.1, 1.0 and HEAD: the bytes are those of uvicorn's own protocol.
    """
    quick = Application(status, headers, pieces)

    answer = await answer_of(QuickProtocol, quick, request_)

    assert answer == await answer_of(
        HttpToolsProtocol, Application(status, headers, pieces), request_
    )
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert [type(send.__self__) for send in quick.sends] == [QuickCycle]


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\0"])
@pytest.mark.parametrize("place", [0, 1])
async def test_no_header_breaks_out(value: bytes, place: int) -> None:
    """
    A break or a NUL, in a name or a value, is no answer: nothing of it is sent, and the client is
    told 500.
    """
    pair = [b"x-a", b"b"]
    pair[place] = value
    headers = [(b"content-length", b"0"), (pair[0], pair[1])]

    answer = await answer_of(QuickProtocol, Application(200, headers, [b""]), POST)

    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in answer


async def test_requests_of_one_connection() -> None:
    """
    Three requests that come in one piece get three answers of two bytes.
    """
    application = Application(200, [(b"content-length", b"2")], [b"ok"], requests=3)

    answer = await answer_of(QuickProtocol, application, POST * 3)

    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answer.count(b"\r\n\r\nok") == 3
