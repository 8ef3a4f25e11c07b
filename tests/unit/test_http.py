"""
HTTP to providers, without a socket: however an answer is framed and cut, it is the same.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from fixtures.http import whole
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from relay_middleware.upstream.http import Connection, HttpClient
from relay_middleware.upstream.targets import target_of

TARGET = target_of("http://a/v1/x", {})
BODIES = st.binary(max_size=200)
CUTS = st.lists(st.integers(min_value=0, max_value=400), max_size=12)
EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';why="so; or so"'])
INTERIM = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n" * 3,
    ]
)
TRAILERS = st.sampled_from([b"", b"Retry-After: 2\r\n", b"A: b\r\nC: d\r\n"])


class _Nowhere(asyncio.Transport):
    """A transport that sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._is_closed = False

    @override
    def write(self, data: object) -> None:
        pass

    @override
    def get_write_buffer_size(self) -> int:
        return 0

    @override
    def pause_reading(self) -> None:
        pass

    @override
    def resume_reading(self) -> None:
        pass

    @override
    def is_closing(self) -> bool:
        return self._is_closed

    @override
    def abort(self) -> None:
        self._is_closed = True


@dataclass(frozen=True, slots=True)
class Framed:
    """An answer as it comes over the wire, and whether the connection ends it."""

    data: bytes
    is_until_close: bool = False


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> bytes:
    """*body* as chunks of any sizes, with extensions and trailers."""
    framed = b""
    while body:
        size = draw(st.integers(min_value=1, max_value=len(body)))
        framed += b"%x%b\r\n%b\r\n" % (size, draw(EXTENSIONS), body[:size])
        body = body[size:]
    return framed + b"0\r\n" + draw(TRAILERS) + b"\r\n"


@st.composite
def framed(draw: st.DrawFn, body: bytes) -> Framed:
    """*body* in one of the ways in which an answer may be sent."""
    head = draw(INTERIM) + b"HTTP/1.1 200 OK\r\nReTrY-aFTer: 7\r\n"
    way = draw(st.sampled_from(["length", "chunks", "close"]))
    if way == "length":
        return Framed(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    if way == "chunks":
        return Framed(head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(chunks(body)))
    return Framed(head + b"Connection: close\r\n\r\n" + body, is_until_close=True)


@pytest.fixture(name="loop", scope="module")
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def opened(loop: asyncio.AbstractEventLoop) -> Connection:
    connection = Connection(TARGET.origin, loop, _Unkept())
    connection.connection_made(_Nowhere())
    return connection


class _Unkept(HttpClient):
    """Keeps no connection, and so needs no timer."""

    @override
    def keep(self, connection: Connection) -> None:
        pass


def feed(connection: Connection, data: bytes, cuts: Sequence[int]) -> None:
    """Hand *data* over, cut at *cuts*."""
    places = sorted({cut for cut in cuts if cut < len(data)} | {0, len(data)})
    for begin, end in itertools.pairwise(places):
        connection.data_received(data[begin:end])


@given(data=st.data(), bodies=st.lists(BODIES, min_size=1, max_size=3), cuts=CUTS)
def test_framing_and_cuts_do_not_matter(
    loop: asyncio.AbstractEventLoop, data: st.DataObject, bodies: list[bytes], cuts: list[int]
) -> None:
    """
    One answer after the other over one connection: each has its own body, status and header, as
    sent, and none of what came before it or of its trailers; a connection that ended one is closed.
    """
    connection = opened(loop)
    for body in bodies:
        answer = data.draw(framed(body))
        response = connection.send(TARGET, b"{}")
        feed(connection, answer.data, cuts)
        if answer.is_until_close:
            connection.connection_lost(None)

        found = loop.run_until_complete(whole(response))
        assert (response.status, found) == (200, body)
        assert response.header(b"retry-after") == "7"
        assert connection.is_usable is not answer.is_until_close
        if answer.is_until_close:
            return


def test_trailers_are_not_the_next_answers(loop: asyncio.AbstractEventLoop) -> None:
    """
    What stands after the chunks of one answer is no header of the one that comes next, which has
    none: of another customer, maybe.
    """
    connection = opened(loop)
    first = connection.send(TARGET, b"{}")
    connection.data_received(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nRetry-After: 9\r\n\r\n"
    )
    second = connection.send(TARGET, b"{}")
    connection.data_received(b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n")

    assert loop.run_until_complete(whole(first)) == b""
    assert loop.run_until_complete(whole(second)) == b""
    assert second.status == 429
    assert second.header(b"retry-after") is None


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body(loop: asyncio.AbstractEventLoop, status: int) -> None:
    """
    204 and 304 end with their heads, whatever length these name.
    """
    connection = opened(loop)
    response = connection.send(TARGET, b"{}")
    connection.data_received(b"HTTP/1.1 %d None\r\nContent-Length: 5\r\n\r\n" % status)

    assert loop.run_until_complete(whole(response)) == b""
    assert response.status == status
    assert connection.is_usable
