"""
What is measured, and what it needs: the canned upstream, Redis, and `relay serve` with all on.
"""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import yaml

from benchmarks.messages import CHUNKS
from benchmarks.processes import Cores, Measured, ProcessFailedError, running, until_said

ROOT = Path(__file__).parents[1]
CUSTOMERS = 500

PAUSE_MS = 1
"""Between the pieces of a stream that come one by one."""

SLOW_CHUNKS = 8
SLOW_PAUSE_MS = 400

EXTRA_EVENTS = 4
"""Of a stream, beside its pieces of content: role, finish, usage and `[DONE]`."""

DRAIN_TIMEOUT_S = 60.0
_PAUSE_S = 0.1

UPSTREAM_PATHS = {
    "smart": "",
    "smart-stream": f"/stream/{CHUNKS}/{PAUSE_MS}",
    "smart-slow": f"/stream/{SLOW_CHUNKS}/{SLOW_PAUSE_MS}",
}
"""Where each model is served, below the upstream's address."""

FEWEST_EVENTS = {"smart": 0, "smart-stream": CHUNKS + 1, "smart-slow": SLOW_CHUNKS + 1}
"""Of a stream of each model, for one that is whole; 0 where none is asked for."""

TIER = {
    "models": ["*"],
    "spend_limits": [
        {"cents": 10**6, "per": "day"},
        {"cents": 10**7, "per": "month"},
    ],
    "rate_limits": ["10000000/minute"],
    "token_limits": ["1000000000/minute"],
    "max_concurrency": 10_000,
    "margin": {"percent": 20},
}
"""Everything is on, and nothing refuses."""


@dataclass(frozen=True, slots=True)
class CannedUpstream:
    """The provider of all."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def calls(self) -> int:
        """Return how many calls it has received."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", "/calls")
            return int(connection.getresponse().read())

    def as_served(self) -> "Served":
        """Return it as if it were one of the systems."""
        routes = {
            model: Route(path=f"{path}/v1/chat/completions")
            for model, path in UPSTREAM_PATHS.items()
        }
        return Served(port=self.port, routes=routes, process=Measured(self.pid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    How a model is asked for.

    Attributes:
        headers: That a request needs.
    """

    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """
    A system that serves.

    Attributes:
        routes: By model.
        database_path: Of its ledger, in SQLite; None where it keeps none.
        ready_s: From its start until it listened, of Relay.
    """

    port: int
    routes: Mapping[str, Route]
    process: Measured
    database_path: Path | None = None
    ready_s: float = 0.0

    def ledger_rows(self) -> int:
        """Return how many requests the ledger has."""
        assert self.database_path is not None
        with closing(sqlite3.connect(self.database_path, timeout=30)) as ledger:
            (rows,) = ledger.execute("SELECT count(*) FROM request").fetchone()
        return int(rows)

    def drained_ledger_rows(self, expected: int) -> int:
        """Return how many requests the ledger has, when it has *expected* or gets no more."""
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while (rows := self.ledger_rows()) < expected and time.monotonic() < deadline_s:
            time.sleep(_PAUSE_S)
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """
    What all systems have in common while they are measured.

    Attributes:
        folder: For their files.
    """

    folder: Path
    cores: Cores
    upstream: CannedUpstream
    redis_url: str
    redis: Measured


def environment(root: Path = ROOT) -> dict[str, str]:
    """Return what our own programs run in: nothing in it changes their configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    return kept | {"PYTHONPATH": str(root)}


@contextmanager
def running_upstream(folder: Path, core: int) -> Iterator[CannedUpstream]:
    """Run the canned upstream."""
    log_path = folder / "upstream.log"
    with running(
        [sys.executable, "-m", "benchmarks.upstream"],
        log_path,
        core=core,
        folder=folder,
        environment=environment(),
    ) as process:
        yield CannedUpstream(int(until_said(process, log_path, "")), process.pid)


@contextmanager
def running_relay(
    bench: Bench,
    name: str,
    *,
    redis_url: str | None,
    root: Path = ROOT,
    workers: int = 1,
    customers: int = CUSTOMERS,
    prepare: Callable[[Path], None] | None = None,
    **more: object,
) -> Iterator[Served]:
    """
    Run `relay serve` with everything on.

    Args:
        name: Of its folder, and of its keys in Redis.
        redis_url: Where limits are counted; None: in the process.
        root: The checkout that is run.
        customers: How many it knows.
        prepare: Called with the path of its database before it starts.
        more: Further keys of its configuration.
    """
    folder = bench.folder / name
    folder.mkdir()
    config = everything_on(bench.upstream) | {"redis_url": redis_url, "redis_prefix": name} | more
    (folder / "relay.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    secret = _prepared_key(folder, root)
    add_customers(folder / "relay.db", customers)
    if prepare is not None:
        prepare(folder / "relay.db")
    command = [sys.executable, "-m", "proxy_app", "serve", "--config", "relay.yaml", "--port", "0"]
    log_path = folder / "relay.log"
    began_s = time.monotonic()
    with running(
        [*command, "--workers", str(workers)],
        log_path,
        core=bench.cores.servers,
        folder=folder,
        environment=environment(root),
    ) as process:
        yield Served(
            port=_port_in(until_said(process, log_path, "listens on")),
            routes=dict.fromkeys(
                UPSTREAM_PATHS, Route(headers={"Authorization": f"Bearer {secret}"})
            ),
            process=Measured(process.pid),
            database_path=folder / "relay.db",
            ready_s=time.monotonic() - began_s,
        )
    _check(log_path)


def _port_in(line: str) -> int:
    found = re.search(r":(\d+)/v1", line)
    assert found, line
    return int(found[1])


def _check(log_path: Path) -> None:
    said = log_path.read_text("utf-8", "replace")
    if "Traceback" in said:
        raise ProcessFailedError(f"{log_path.parent.name} told of an error:\n{said}")


def everything_on(upstream: CannedUpstream) -> dict[str, object]:
    """Return a configuration."""
    return {
        "model_list": deployments_at(upstream),
        "tiers": {"pro": TIER},
        "customers": {"default_tier": "pro"},
        "database_url": "sqlite:///relay.db",
    }


def deployments_at(upstream: CannedUpstream) -> list[dict[str, object]]:
    """Return a `model_list` with all models, each at its path."""
    return [deployment(model, f"{upstream.url}{path}") for model, path in UPSTREAM_PATHS.items()]


def deployment(model: str, address: str, api_key: str = "sk-none") -> dict[str, object]:
    """Return an entry of `model_list`."""
    return {
        "model_name": model,
        "litellm_params": {
            "model": "openai/gpt-4o-mini",
            "api_base": f"{address}/v1",
            "api_key": api_key,
        },
    }


def _prepared_key(folder: Path, root: Path) -> str:
    """Make the database of *folder*, with a key, and return the key's secret."""
    template = folder.parent / f"prepared-{root.name}"
    if not template.exists():
        relay = [sys.executable, "-m", "proxy_app"]
        created = subprocess.run(  # noqa: S603 - our own program
            [*relay, "keys", "create", "--may-name-customers", "--json", "--config", "relay.yaml"],
            cwd=folder,
            env=environment(root),
            stdout=subprocess.PIPE,
            check=True,
        )
        template.mkdir()
        shutil.copy(folder / "relay.db", template)
        (template / "secret").write_text(json.loads(created.stdout)["api_key"])
    else:
        shutil.copy(template / "relay.db", folder)
    return (template / "secret").read_text()


def add_customers(database_path: Path, count: int, *, prefix: str = "c", tier: str = "pro") -> None:
    """
    Write the customers `c0` and so on into a ledger that nobody has open: Relay itself takes 600
    new ones of a key in a minute.
    """
    with closing(sqlite3.connect(database_path)) as ledger, ledger:
        ledger.executemany(
            "INSERT INTO customer (id, tier, status, created_at_us) VALUES (?, ?, 'active', 0)",
            ((f"{prefix}{number}", tier) for number in range(count)),
        )
