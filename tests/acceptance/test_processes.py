"""
Relay as its users start it: as processes, over sockets, ended by signals.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from fixtures.world import CUSTOMER_HEADER, MESSAGES, UNBOUNDED, deployment, tiers

from benchmarks.redis_server import free_port
from relay_middleware.testing import Behaviour, Simulator

RELAY = [sys.executable, "-m", "proxy_app"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}

CAP = 100
BODY = {"model": "smart", "messages": MESSAGES, "max_tokens": CAP}
PRICES = {
    "openai/gpt-4o-mini": {
        "usd_per_million_input_tokens": 0,
        "usd_per_million_cached_input_tokens": 0,
        "usd_per_million_output_tokens": 1,
    }
}
"""An output token costs 1,000 nano-dollars, so a call that uses its cap costs 0.01 cent."""


@contextmanager
def process(
    arguments: Sequence[str],
    folder: Path,
    *,
    until: str,
    ending: signal.Signals = signal.SIGINT,
    cuts: bool = False,
) -> Iterator[str]:
    """
    Run `relay` with *arguments* in *folder*; give what it printed up to a line that contains
    *until*. Ends it with the signal *ending*, and demands that it ends well. Of an answer that it
    *cuts* off uvicorn tells with a traceback.
    """
    with subprocess.Popen(  # noqa: S603 - our own program
        [*RELAY, *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": os.getcwd()},  # noqa: PTH109 - the repository's root
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as started:
        assert started.stdout is not None
        printed = ""
        for line in started.stdout:
            printed += line
            if until in line:
                break
        else:
            pytest.fail(f"ended early:\n{printed}")
        try:
            yield printed
        finally:
            # Also when the test has failed: nobody else would end it.
            started.send_signal(ending)
        rest = started.stdout.read()
        assert started.wait(timeout=30) == 0, rest
        assert ("Traceback" in rest) is cuts, rest


def relay(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(  # noqa: S603 - our own program
        [*RELAY, *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": os.getcwd()},  # noqa: PTH109 - the repository's root
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write_config(folder: Path, provider: str, **more: object) -> None:
    config = {
        "model_list": [deployment(provider)],
        "prices": PRICES,
        "database_url": "sqlite:///relay.db",
        **tiers(spend_limits=[{"cents": 0.1, "per": "month"}]),
        **more,
    }
    (folder / "relay.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def new_key(folder: Path) -> tuple[str, str]:
    """Return id and secret of a key that may name customers."""
    arguments = ["keys", "create", "--may-name-customers", "--json", "--config", "relay.yaml"]
    created = json.loads(relay(folder, *arguments).stdout)
    return created["api_key_id"], created["api_key"]


async def ask(client: httpx.AsyncClient, url: str, secret: str) -> httpx.Response:
    return await client.post(
        f"{url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {secret}", CUSTOMER_HEADER: "alice"},
        json=BODY,
    )


@pytest.fixture(name="simulator")
def _simulator() -> Simulator:
    """
    A provider whose every answer uses its whole output cap.
    """
    simulator = Simulator()
    simulator.set("live", Behaviour(output_tokens="cap"))
    return simulator


@pytest.fixture(name="provider")
def _provider(simulator: Simulator) -> Iterator[str]:
    with simulator.run_in_thread() as url:
        yield url


@pytest.mark.slow
def test_demo_prints_what_works_when_pasted(tmp_path: Path) -> None:
    """
    The curl line and the client snippet that `relay demo` prints work as they stand.
    """
    arguments = ["demo", "--port", str(free_port())]
    with process(arguments, tmp_path, until="Ctrl-C ends") as printed:
        curl = re.search(r"^curl .*?^  -d .*?$", printed, re.DOTALL | re.MULTILINE)
        snippet = re.search(r"^from openai .*?^print\(.*?$", printed, re.DOTALL | re.MULTILINE)
        assert curl is not None
        assert snippet is not None

        by_curl = subprocess.run(  # noqa: S602 - what a user would paste
            curl[0], shell=True, capture_output=True, text=True, timeout=30, check=True
        )
        by_client = subprocess.run(  # noqa: S603 - the same
            [sys.executable, "-c", snippet[0]],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )

    answer = json.loads(by_curl.stdout)
    assert answer["relay"]["customer_id"] == "cust_abc123"
    assert answer["cost_cents"] > 0
    assert "Simulated answer to: Hello!" in by_client.stdout


@pytest.mark.slow
def test_two_workers_share_one_limit(
    tmp_path: Path, simulator: Simulator, provider: str, redis_url: str
) -> None:
    """
    100 at once over two workers with money for ten: 10 answers, 90 refusals, 10 calls, then 402.
    """
    write_config(tmp_path, provider, redis_url=redis_url)
    key_id, secret = new_key(tmp_path)
    port = free_port()
    arguments = ["serve", "--config", "relay.yaml", "--port", str(port), "--workers", "2"]

    async def scene() -> None:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(timeout=30, limits=UNBOUNDED) as client:
            answers = await asyncio.gather(*(ask(client, url, secret) for _ in range(100)))
            counted = Counter(answer.status_code for answer in answers)
            assert counted[200] == 10
            assert counted[402] + counted[429] == 90
            assert simulator.calls() == 10
            after = await ask(client, url, secret)
            assert after.json()["error"]["code"] == "spend_limit_exceeded"

            revoked = relay(tmp_path, "keys", "revoke", key_id, "--config", "relay.yaml")
            assert revoked.returncode == 0, revoked.stderr
            # Each worker looks once a second, so all have seen it within two, on a quiet machine.
            async with asyncio.timeout(15):
                refused = 0
                while refused < 20:
                    answer = await ask(client, url, secret)
                    refused = refused + 1 if answer.status_code == 401 else 0

    with process(arguments, tmp_path, until="listens on"):
        asyncio.run(scene())

    usage = relay(tmp_path, "usage", "--json", "--config", "relay.yaml")
    (alice,) = json.loads(usage.stdout)
    assert alice["customer_id"] == "alice"
    assert alice["requests"] == 10
    assert alice["output_tokens"] == 1000


@pytest.mark.slow
def test_sigterm_drains_answers_and_ledger(
    tmp_path: Path, simulator: Simulator, provider: str
) -> None:
    """
    An answer under way at SIGTERM is finished, and is in the ledger when the process has ended.
    """
    simulator.set("live", Behaviour(output_tokens="cap", latency_s=0.5))
    write_config(tmp_path, provider)
    _, secret = new_key(tmp_path)
    port = free_port()
    arguments = ["serve", "--config", "relay.yaml", "--port", str(port)]

    with (
        ThreadPoolExecutor() as threads,
        process(arguments, tmp_path, until="listens on", ending=signal.SIGTERM),
    ):
        asking = threads.submit(
            httpx.post,
            f"http://127.0.0.1:{port}/v1/chat/completions",
            headers={"Authorization": f"Bearer {secret}", CUSTOMER_HEADER: "alice"},
            json=BODY,
            timeout=30,
        )
        assert simulator.wait_for_calls(1)

    assert asking.result().status_code == 200
    (alice,) = json.loads(relay(tmp_path, "usage", "--json", "--config", "relay.yaml").stdout)
    assert alice["requests"] == 1


@pytest.mark.slow
def test_sigterm_cuts_what_does_not_end(
    tmp_path: Path, simulator: Simulator, provider: str
) -> None:
    """
    A stream that does not end within the configured second is cut off, and charged for what came:
    80 bytes are 20 tokens.
    """
    simulator.set("live", Behaviour(stall="after_content", text="Simulated " * 40, chunk_tokens=20))
    limits = [{"cents": 1, "per": "month"}]
    write_config(
        tmp_path,
        provider,
        drain_timeout_s=1,
        **tiers(spend_limits=limits, on_disconnect="cancel"),
    )
    _, secret = new_key(tmp_path)
    port = free_port()
    arguments = ["serve", "--config", "relay.yaml", "--port", str(port)]
    has_content = threading.Event()

    def read() -> None:
        with httpx.stream(
            "POST",
            f"http://127.0.0.1:{port}/v1/chat/completions",
            headers={"Authorization": f"Bearer {secret}", CUSTOMER_HEADER: "alice"},
            json={**BODY, "stream": True},
            timeout=30,
        ) as answer:
            for text in answer.iter_text():
                if "Simulated" in text:
                    has_content.set()

    with (
        ThreadPoolExecutor() as threads,
        process(arguments, tmp_path, until="listens on", ending=signal.SIGTERM, cuts=True),
    ):
        reading = threads.submit(read)
        assert has_content.wait(timeout=30)

    assert isinstance(reading.exception(), httpx.RemoteProtocolError)
    (alice,) = json.loads(relay(tmp_path, "usage", "--json", "--config", "relay.yaml").stdout)
    assert (alice["requests"], alice["output_tokens"]) == (1, 20)


@pytest.mark.slow
def test_embedded_store_has_one_process(tmp_path: Path, provider: str) -> None:
    """
    Two workers, or a second process, on the embedded store are refused in one line.
    """
    write_config(tmp_path, provider)
    config = ["--config", "relay.yaml"]

    workers = relay(tmp_path, "serve", *config, "--port", "0", "--workers", "2")
    with process(["serve", *config, "--port", "0"], tmp_path, until="listens on"):
        second = relay(tmp_path, "serve", *config, "--port", "0")

    for refused in (workers, second):
        assert refused.returncode == 2
        assert "redis_url" in refused.stderr
        assert "Traceback" not in refused.stderr
