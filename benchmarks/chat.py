"""
What a chat request costs `relay serve`, by the way it speaks to Redis.

    PYTHONPATH=tests .venv/bin/python benchmarks/chat.py [PAIRS] [NAME=CHECKOUT ...]

All limits on, ledger written (SQLite), 16 requests at once to one worker, an upstream that answers
at once. The servers are on the last core, all else on the first. CPU of the server's threads per
request, from the kernel's accounting. The variants are measured in turn; of PAIRS (20) the medians
are printed, and of the ratios to the first variant the median and the quartiles. Other checkouts of
Relay can be measured beside this one.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
import yaml
from fixtures.redis_server import free_port, running_redis

CONNECTIONS = 16
REQUESTS = 60
"""Of each connection, in one measurement."""

WARM_UP = 2
"""Measurements that do not count."""

CUSTOMERS = 500
ROOT = Path(__file__).parents[1]
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello! How can I help you today?"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
    }
).encode()
QUESTION = json.dumps(
    {"model": "smart", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 100}
).encode()


class Upstream(asyncio.Protocol):
    """Answers every request at once with the same bytes."""

    _answer = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}"
        "\r\n\r\n"
    ).encode() + ANSWER

    def __init__(self) -> None:
        self._read = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, rest = self._read.partition(b"\r\n\r\n")
        if end and len(rest) >= length_in(head):
            self._read = b""
            self._transport.write(self._answer)


def length_in(head: bytes) -> int:
    """Return the `Content-Length` of a message's head."""
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """
    Attributes:
        root: The checkout that is run.
        redis_url: What it is told.
    """

    name: str
    root: Path
    redis_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A variant that serves."""

    pid: int
    port: int
    secret: str

    def cpu_ns(self) -> int:
        """Return the CPU that its threads have used."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks)


@contextmanager
def serving(variant: Variant, folder: Path, upstream: str, core: int) -> Iterator[Server]:
    """Run `relay serve` on *core*."""
    folder.mkdir()
    config = {
        "model_list": [
            {
                "model_name": "smart",
                "litellm_params": {
                    "model": "openai/gpt-4o-mini",
                    "api_base": f"{upstream}/v1",
                    "api_key": "sk-x",
                },
            }
        ],
        "tiers": {
            "free": {
                "models": ["*"],
                "spend_limits": [{"cents": 10**6, "per": "month"}],
                "rate_limits": ["1000000/minute"],
                "token_limits": ["1000000000/minute"],
                "max_concurrency": 1000,
            }
        },
        "customers": {"default_tier": "free"},
        "database_url": "sqlite:///relay.db",
        "redis_url": variant.redis_url,
        "redis_prefix": variant.name,
    }
    (folder / "relay.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(variant.root)}
    relay = [sys.executable, "-c", "from proxy_app.cli import main; main()"]
    created = subprocess.run(  # noqa: S603 - our own program
        [*relay, "keys", "create", "--may-name-customers", "--json", "--config", "relay.yaml"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    port = free_port()
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(  # noqa: S603 - the same
            [*relay, "serve", "--config", "relay.yaml", "--port", str(port)],
            cwd=folder, env=environment, stdout=log, stderr=log,
        ) as process,
    ):  # fmt: skip
        os.sched_setaffinity(process.pid, {core})
        try:
            yield Server(pid=process.pid, port=port, secret=json.loads(created.stdout)["api_key"])
        finally:
            process.terminate()


async def ask(server: Server, connection: int) -> None:
    """Send the requests of one connection, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for i in range(REQUESTS):
        customer = (connection * 31 + i) % CUSTOMERS
        writer.write(
            (
                "POST /v1/chat/completions HTTP/1.1\r\nHost: relay\r\n"
                f"Authorization: Bearer {server.secret}\r\nX-Customer-Id: c{customer}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(QUESTION)}\r\n\r\n"
            ).encode()
            + QUESTION
        )
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(length_in(head))
        assert head.startswith(b"HTTP/1.1 200"), head + body
    writer.close()


async def cpu_us(server: Server) -> float:
    """Return the CPU of one request."""
    began_ns = server.cpu_ns()
    await asyncio.gather(*(ask(server, connection) for connection in range(CONNECTIONS)))
    return (server.cpu_ns() - began_ns) / (CONNECTIONS * REQUESTS) / 1000


async def is_up(server: Server) -> None:
    """Wait until *server* takes connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.2)
        else:
            writer.close()
            return


@asynccontextmanager
async def upstream_url() -> AsyncIterator[str]:
    """Serve the canned answer."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def main(variants: list[Variant], folder: Path, core: int, pairs: int) -> None:
    """Measure all *variants* in turn, and print what was found."""
    async with upstream_url() as upstream:
        with ExitStack() as stack:
            servers = {
                each.name: stack.enter_context(serving(each, folder / each.name, upstream, core))
                for each in variants
            }
            for server in servers.values():
                await is_up(server)
            found: dict[str, list[float]] = {name: [] for name in servers}
            for pair in range(pairs + WARM_UP):
                for name in servers if pair % 2 else reversed(list(servers)):
                    found[name].append(await cpu_us(servers[name]))
    first = variants[0].name
    for name, values in found.items():
        ratios = [a / b for a, b in zip(found[first][WARM_UP:], values[WARM_UP:], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        cost = statistics.median(values[WARM_UP:])
        print(f"{name:12} {cost:6.0f} us  {first}/{name} {middle:.2f} [{low:.2f}-{high:.2f}]")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    count = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 20
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "redis"
        data.mkdir()
        with running_redis(data, "--appendonly", "yes", "--save", "") as patient_url:
            redis_url, _, _ = patient_url.partition("?")
            compared = [
                Variant(name=name, root=Path(root), redis_url=redis_url)
                for name, root in (argument.split("=", 1) for argument in arguments)
            ]
            # With an option of redis-py's pool, Relay uses it.
            pool = Variant(name="pool", root=ROOT, redis_url=f"{redis_url}?max_connections=16")
            multiplexed = Variant(name="multiplexed", root=ROOT, redis_url=redis_url)
            uvloop.run(main([*compared, pool, multiplexed], Path(place), cores[-1], count))
