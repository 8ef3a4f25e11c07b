"""
HTTP to providers, over real sockets: every way an answer comes, ends, or does not.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fixtures.http import whole

from relay_middleware.upstream.http import (
    MAX_HEAD_BYTES,
    MAX_UNREAD_BYTES,
    Connection,
    HttpClient,
    HttpError,
)
from relay_middleware.upstream.targets import Target, target_of

pytestmark = pytest.mark.anyio

TLS = Path(__file__).parent.parent / "data/tls"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nRetry-After: 7\r\n\r\n"
    b"3;why=so\r\nHel\r\n2\r\nlo\r\n0\r\nTrailer: yes\r\n\r\n"
)
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """What a test serves, and how often somebody has connected."""

    port: int
    connections: int = 0
    open: list[asyncio.StreamWriter] = field(default_factory=list)

    def target(self, scheme: str = "http", host: str = "127.0.0.1") -> Target:
        return target_of(f"{scheme}://{host}:{self.port}/v1/x", {})


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve connections by *serve* on a free port of this machine."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        served.open.append(writer)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    served = Server(listening.sockets[0].getsockname()[1])
    try:
        yield served
    finally:
        listening.close()
        for writer in served.open:
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")]
    return await reader.readexactly(int(length.partition(b":")[2]))


def always(answer: bytes, *, closes: bool = False) -> Serve:
    """Answer each request with *answer*, then go on or close the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
            if closes:
                return

    return serve


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close at once."""
    writer.close()


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read whatever comes, until the client closes."""
    while await reader.read(65_536):
        pass


@pytest.fixture(
    scope="module",
    params=[("asyncio", {}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """
    A host application may run either, and they differ in when they say what.
    """
    return request.param


@pytest.fixture(name="client")
async def _client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


def certified(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """What a server shows: a certificate for `localhost`."""
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(TLS / "localhost.pem")
    shown.maximum_version = newest
    return shown


@asynccontextmanager
async def trusting() -> AsyncIterator[HttpClient]:
    """A client that believes whoever has signed that."""
    client = HttpClient(tls=ssl.create_default_context(cafile=TLS / "authority.pem"))
    yield client
    await client.aclose()


async def connected(client: HttpClient, target: Target) -> Connection:
    return client.idle(target.origin) or await client.connect(target.origin)


async def ask(client: HttpClient, target: Target, body: bytes = b"{}") -> tuple[int, bytes]:
    response = (await connected(client, target)).send(target, body)
    data = await whole(response)
    return response.status, data


async def test_a_connection_is_used_again(client: HttpClient) -> None:
    """
    A thousand requests, one after the other, take one connection; ten at once take ten.
    """
    async with serving(always(ANSWER)) as server:
        target = server.target()
        for _ in range(1000):
            assert await ask(client, target) == (200, b"Hello")
        assert server.connections == 1

        await asyncio.gather(*(ask(client, target) for _ in range(10)))
        assert server.connections == 10


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nHello",
        b"HTTP/1.1 200 OK\r\n\r\nHello",
        b"HTTP/1.0 200 OK\r\n\r\nHello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nHello",
    ],
)
async def test_a_server_may_close_after_an_answer(client: HttpClient, answer: bytes) -> None:
    """
    The answer has come, also where only the closing tells its end; the next has its own connection.
    """
    async with serving(always(answer, closes=True)) as server:
        for number in range(1, 4):
            assert await ask(client, server.target()) == (200, b"Hello")
            assert server.connections == number


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nHello", id="short"),
        pytest.param(CHUNKED[:-2], id="chunks without an end"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nHello",
            id="two lengths",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nHello",
            id="two values",
        ),
        pytest.param(
            b"HTTP/1.1 101 Yes\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="upgrade"
        ),
        pytest.param(b"HTTP/1.1 099 Oh\r\nContent-Length: 1\r\n\r\nx" + ANSWER, id="no status"),
        pytest.param(b"HTTP/1.1 000 Oh\r\nContent-Length: 1\r\n\r\nx" + ANSWER, id="status 0"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="no length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nHello", id="unknown framing"
        ),
    ],
)
async def test_what_is_no_answer_is_an_error(client: HttpClient, answer: bytes) -> None:
    """
    Whoever waits for it is told, and the connection is not used again.
    """
    async with serving(always(answer, closes=True)) as server:
        target = server.target()
        with pytest.raises(HttpError):
            await ask(client, target)

        assert client.idle(target.origin) is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nA: ", id="head"),
        pytest.param(CHUNKED.partition(b"so")[0], id="extension of a chunk"),
        pytest.param(CHUNKED[:-4], id="trailer"),
    ],
)
async def test_what_has_no_end_is_an_error(client: HttpClient, answer: bytes) -> None:
    """
    After 64 KiB that are no body, not when the server closes, which it does not.
    """
    async with serving(silence) as server:
        target = server.target()
        connection = await client.connect(target.origin)
        response = connection.send(target, b"{}")
        connection.data_received(answer)
        connection.data_received(b"a" * (MAX_HEAD_BYTES + 1))

        with pytest.raises(HttpError, match="has no end"):
            await whole(response)


async def test_hints_without_an_end_are_an_error(client: HttpClient) -> None:
    """
    A server that only ever says that an answer will come is given up after 64 KiB of that.
    """
    async with serving(always(EARLY * (MAX_HEAD_BYTES // len(EARLY) + 1))) as server:
        with pytest.raises(HttpError, match="has no end"):
            await ask(client, server.target())


@pytest.mark.parametrize(
    "more", [ANSWER, b"x", b"\r\n\r\nHTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"]
)
@pytest.mark.parametrize("is_late", [False, True])
async def test_what_follows_an_answer_is_nobodys(
    client: HttpClient,
    more: bytes,
    is_late: bool,  # noqa: FBT001 - pytest's
) -> None:
    """
    Bytes after an answer, at once or later, are not taken for the next one's: the connection ends.
    """
    async with serving(silence) as server:
        target = server.target()
        connection = await client.connect(target.origin)
        response = connection.send(target, b"{}")
        if is_late:
            connection.data_received(ANSWER)
            connection.data_received(more)
        else:
            connection.data_received(ANSWER + more)

        assert await whole(response) == b"Hello"
        assert client.idle(target.origin) is None


async def test_a_connection_that_was_closed_is_not_used(client: HttpClient) -> None:
    """
    A server that closes what nobody uses loses no request.
    """
    async with serving(always(ANSWER, closes=True)) as server:
        target = server.target()
        for _ in range(3):
            connection = await connected(client, target)
            assert await whole(connection.send(target, b"{}")) == b"Hello"
            await connection.closed
        assert server.connections == 3


async def test_what_nobody_uses_is_closed() -> None:
    """
    After the time for that, and no timer is left.
    """
    client = HttpClient(idle_s=0.01)
    async with serving(always(ANSWER)) as server:
        target = server.target()
        connection = await client.connect(target.origin)
        await whole(connection.send(target, b"{}"))
        await connection.closed

        assert client.idle(target.origin) is None
        assert await ask(client, target) == (200, b"Hello")
    await client.aclose()


@pytest.mark.parametrize("answer", [b"", ANSWER[:20], ANSWER[:-2]])
async def test_who_is_cancelled_leaves_no_connection(client: HttpClient, answer: bytes) -> None:
    """
    Before the head, in it, and in the body: the connection is closed, and the server sees it.
    """
    async with serving(silence) as server:
        target = server.target()
        connection = await client.connect(target.origin)
        response = connection.send(target, b"{}")
        if answer:
            connection.data_received(answer)
        waiting = asyncio.ensure_future(whole(response))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        response.close()

        await connection.closed
        assert client.idle(target.origin) is None


async def test_a_provider_is_kept_waiting_for_a_slow_reader(client: HttpClient) -> None:
    """
    Of 64 MiB that nobody reads the server gets rid of what sockets hold, some MiB; all comes in the
    end, and no read gives more than what may wait and the piece that was one too many.
    """
    size = 64 * 1024 * 1024
    stopped = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(64):
            writer.write(bytes(1024 * 1024))
            if writer.transport.get_write_buffer_size():
                stopped.set()
            await writer.drain()

    async with serving(serve) as server:
        target = server.target()
        connection = await client.connect(target.origin)
        response = connection.send(target, b"{}")
        await response.head()
        await stopped.wait()

        pieces = []
        while piece := await response.read():
            pieces.append(len(piece))

        assert sum(pieces) == size
        assert max(pieces) <= MAX_UNREAD_BYTES + 256 * 1024
        # It is kept, and reads on.
        assert client.idle(target.origin) is connection


async def test_who_answers_before_it_has_read_is_not_asked_again(client: HttpClient) -> None:
    """
    A refusal of 16 MiB that nobody reads comes through; the rest of them is not sent after it.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nNo")
        await asyncio.sleep(3600)

    async with serving(serve) as server:
        target = server.target()

        assert await ask(client, target, bytes(16 * 1024 * 1024)) == (413, b"No")
        assert client.idle(target.origin) is None


async def test_who_is_cancelled_while_it_connects_leaves_no_connection(client: HttpClient) -> None:
    """
    A server that says nothing where it should agree on TLS sees the connection end.
    """
    arrived, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        while await reader.read(65_536):
            pass
        left.set()

    async with serving(serve) as server:
        connecting = asyncio.ensure_future(client.connect(server.target("https").origin))
        await arrived.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await left.wait()


@pytest.mark.parametrize("anyio_backend", [("asyncio", {})], ids=["asyncio"])
async def test_a_connection_that_is_closed_at_once_is_none() -> None:
    """
    A server that closes with the last word of the handshake is as one that cannot be reached:
    nothing can have been sent to it. asyncio's own loop always sees it in time.
    """
    # Before 1.3 the server has that last word.
    shown = certified(ssl.TLSVersion.TLSv1_2)
    async with serving(hang_up, shown) as server, trusting() as client:
        with pytest.raises(HttpError, match="closed at once"):
            await client.connect(server.target("https", "localhost").origin)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_connection_that_is_closed_at_once_is_an_error(scheme: str) -> None:
    """
    Whether that is seen before the request is sent or after it: it differs by loop, and by whether
    the server has the last word of TLS's handshake, as it has before 1.3.
    """
    shown = certified(ssl.TLSVersion.TLSv1_2) if scheme == "https" else None
    async with serving(hang_up, shown) as server, trusting() as client:
        for _ in range(20):
            with pytest.raises(OSError, match=r"closed"):
                await ask(client, server.target(scheme, "localhost"))


async def test_closing_ends_what_is_in_use(client: HttpClient) -> None:
    """
    Whoever still waits for an answer is told, and the server sees the connection end.
    """
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence(reader, writer)
        left.set()

    async with serving(serve) as server:
        target = server.target()
        response = (await client.connect(target.origin)).send(target, b"{}")
        await client.aclose()

        with pytest.raises(HttpError):
            await response.head()
        await left.wait()


async def test_nobody_there_is_an_error(client: HttpClient) -> None:
    """
    A closed port, and a name that no host has.
    """
    async with serving(silence) as server:
        target = server.target()
    for each in (target, target_of("http://nobody.invalid/", {})):
        with pytest.raises(OSError, match=r"."):
            await client.connect(each.origin)


async def test_tls(client: HttpClient) -> None:
    """
    Whoever shows a certificate of somebody who is believed, for the name that was meant, is sent
    the request; an unknown one, and one of another name, is not.
    """
    async with serving(always(ANSWER), certified()) as server, trusting() as believing:
        for _ in range(3):
            assert await ask(believing, server.target("https", "localhost")) == (200, b"Hello")
        assert server.connections == 1
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(believing, server.target("https"))
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(client, server.target("https", "localhost"))
