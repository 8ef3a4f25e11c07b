"""
The server around the application: its socket, its workers, and how they end.
"""

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from proxy_app.answering import QuickProtocol
from proxy_app.app import create_app
from proxy_app.memory import keep_what_is_there
from proxy_app.observability import configure_logging
from proxy_app.workers import CONFIG_VARIABLE, create_worker_app
from relay_middleware.config import Config, load_config
from relay_middleware.errors import ConfigurationError, StoreUnavailableError
from relay_middleware.relay import Relay
from relay_middleware.services import WRITE_TIMEOUT_S

BACKLOG = 2048
"""Connections that wait to be accepted; uvicorn's own number."""

KEEP_ALIVE_S = 75
"""Longer than load balancers keep a connection idle (60 s is common), so that they close it first
and never send into one that is just being closed."""

TRIES = 5
"""How often the stores are asked at a start. A machine that is busy starting processes may not get
to an answer in time, and where nobody listens each try fails at once."""

_ENDING = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """
    Return a socket that listens on *host* and *port*; 0 is any free port.

    Raises:
        ConfigurationError: The address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform == "linux":
        # For all that it accepts. uvicorn closes a connection when its client has taken everything:
        # one that takes nothing, and counts as gone, would keep it for as long as it likes.
        listener.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(WRITE_TIMEOUT_S * 1000)
        )
    try:
        listener.bind((host, port))
        # From here on connections wait for the workers instead of being refused.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise cannot_listen(host, port, error) from None
    return listener


def cannot_listen(host: str, port: int, error: OSError) -> ConfigurationError:
    """Return what to raise when the address is taken, or not this machine's."""
    number = error.errno or 0
    reason = os.strerror(number) if number in errno.errorcode else error.strerror
    return ConfigurationError(
        f"cannot listen on {host}:{port}: {reason}; choose another port with --port or PORT, "
        "another address with --host"
    )


def address_of(listener: socket.socket) -> str:
    """Return where *listener* can be reached, as the beginning of a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    path: Path, host: str, port: int, *, workers: int, when_ready: Callable[[str], None]
) -> None:
    """
    Serve the configuration at *path*, until SIGTERM or Ctrl-C; then drain.

    Args:
        workers: Processes; more than one needs Redis.
        when_ready: Called with the server's address once requests are taken.

    Raises:
        RelayError: The configuration is wrong, or a store cannot be opened.
    """
    config = load_config(path)
    if workers > 1 and config.redis_url is None:
        raise ConfigurationError(
            f"the embedded store belongs to one process, and --workers is {workers}: set redis_url "
            "in the configuration, or serve with one worker"
        )
    configure_logging(is_readable=False)
    listener = listen(host, port)
    if workers == 1:
        serve_here(config, listener, when_ready)
        return
    asyncio.run(_try_out(config))
    # For the workers, which begin as new processes.
    os.environ[CONFIG_VARIABLE] = str(path)
    factory = f"{create_worker_app.__module__}:{create_worker_app.__name__}"
    listener.set_inheritable(True)
    with _ending_cleanly():
        supervisor = Multiprocess(_settings(factory, config, workers=workers), [listener])
        when_ready(address_of(listener))
        supervisor.run()


def serve_here(config: Config, listener: socket.socket, when_ready: Callable[[str], None]) -> None:
    """
    Serve *config* in this process, until SIGTERM or Ctrl-C; then drain.

    Raises:
        RelayError: A store cannot be opened.
    """
    relay = Relay.from_config(config)

    async def run() -> None:
        # Here rather than by the lifespan, which could only say that it failed.
        await relay.start()
        server = uvicorn.Server(_settings(create_app(relay, config), config))

        def end() -> None:
            server.should_exit = True

        with _ending_cleanly(end):
            keep_what_is_there()
            when_ready(address_of(listener))
            await server.serve([listener])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def _try_out(config: Config) -> None:
    """
    Open and close a relay: what is wrong is told once, before workers fail of it again and again,
    and the database has its tables before they all want to make them.
    """
    relay = Relay.from_config(config)
    for tries_left in reversed(range(TRIES)):
        try:
            await relay.start()
        except StoreUnavailableError:
            if not tries_left:
                raise
        else:
            break
    await relay.aclose()


def _settings(app: ASGIApp | str, config: Config, *, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        loop="uvloop",
        http=QuickProtocol,
        ws="none",
        interface="asgi3",
        lifespan="on",
        # Ours: see observability.py. Each request has its one line already.
        log_config=None,
        access_log=False,
        server_header=False,
        # The client's address is used for nothing, so no header needs to be believed.
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        # Then answers are cut off, and the relay still drains what it has to write.
        timeout_graceful_shutdown=config.drain_timeout_s,
    )


async def until_told_to_end() -> None:
    """Wait for SIGTERM or Ctrl-C."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, told.set)
    await told.wait()


def _nothing() -> None:
    """Default of `_ending_cleanly`."""


@contextmanager
def _ending_cleanly(end: Callable[[], None] = _nothing) -> Iterator[None]:
    """
    Call *end* on a signal, as long as uvicorn has no handler of its own: one that comes in between
    must not be lost.
    """
    # uvicorn drains on a signal and then raises it again, for whoever had a handler before: without
    # one, the process would end as killed although everything was written.
    handlers = {number: signal.signal(number, lambda *_: end()) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
