"""
Serving: the simulated providers on a real socket, of this machine only.

uvicorn's protocol and life cycle, without its signal handlers, its logging and its clock: the
program that serves keeps its own.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from relay_middleware.testing.playing import CUT_EXTENSION

# Longer than any test: a client must not meet a connection that closes while it writes.
_KEEP_ALIVE_S = 600
# Connections are closed before, so that only a fault of ours could make it wait.
_SHUTDOWN_S = 5
# Connections that a benchmark opens at once must not wait for their second SYN.
_BACKLOG = 2048


class NotLoopbackError(ValueError):
    """The address is one that other machines could reach."""


class _Protocol(HttpToolsProtocol):
    """HTTP, with a way to cut a connection, and without an access log."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Here and not in `Config`, which would silence every server of the process.
        self.access_log = False

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        # `close` and not `abort`: what was written before the cut still arrives.
        self.scope["extensions"] = {CUT_EXTENSION: {"close": self.transport.close}}


@asynccontextmanager
async def serving(app: ASGIApp, *, host: str, port: int) -> AsyncIterator[str]:
    """
    Serve *app* in the running loop and yield its address, such as `http://127.0.0.1:9000`.

    At the end all connections are closed, in the middle of an answer too.

    Args:
        port: 0 for any free one.

    Raises:
        NotLoopbackError: *host* is not this machine's loopback.
        OSError: The port is taken.
    """
    listener = _listener(host, port)
    url = _url(listener)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        backlog=_BACKLOG,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    config.load()
    server = uvicorn.Server(config)
    # `Server.serve` would do the same and take the process's signals.
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield url
    finally:
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await server.shutdown(sockets=[listener])


@contextmanager
def serving_in_thread(app: ASGIApp, *, host: str, port: int) -> Iterator[str]:
    """
    Serve *app* in a thread with a loop of its own and yield its address, as `serving` does.

    Raises:
        NotLoopbackError: *host* is not this machine's loopback.
        OSError: The port is taken.
    """
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        async with serving(app, host=host, port=port) as url:
            started.set_result((url, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            # Before the start the caller waits for it; later it is a fault to be seen.
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run_thread, name="relay-simulator", daemon=True)
    thread.start()
    url, loop, stop = started.result()
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _listener(host: str, port: int) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        ip = None
    if ip is None or not ip.is_loopback:
        raise NotLoopbackError(
            f"simulated providers listen on loopback only, not on {host!r}; use 127.0.0.1"
        )
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET  # noqa: PLR2004 - IP version 6
    # The protocol is named because asyncio switches Nagle's algorithm off only where it is; with it
    # every answer of two writes waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        # Not left to the loop: a port that is taken may show itself only here.
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
