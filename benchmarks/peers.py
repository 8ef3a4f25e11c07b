"""
Other gateways, installed in a scratch folder outside of the repository and started there.

LiteLLM's proxy runs without a database, so without budgets; Portkey's gateway keeps and limits
nothing. Both forward to the same canned upstream as Relay.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import yaml

from benchmarks.processes import BenchmarkError, Measured, running, until_listening
from benchmarks.redis_server import free_port
from benchmarks.servers import UPSTREAM_PATHS, Bench, Route, Served, deployments_at

PORTKEY = "@portkey-ai/gateway@1.15.2"

LITELLM = f"litellm[proxy]=={version('litellm')}"


def scratch_folder() -> Path:
    """Return where the others are installed: `$RELAY_BENCH_PEERS`, else in the cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("RELAY_BENCH_PEERS", cache / "relay-bench-peers"))


def install(folder: Path) -> None:
    """
    Install both in *folder*, unless they are there: some hundred megabytes.

    Raises:
        BenchmarkError: There is no npm.
        subprocess.CalledProcessError: pip or npm failed, and has said why.
    """
    if shutil.which("npm") is None:
        raise BenchmarkError("Portkey's gateway needs Node and npm, and there is no npm")
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "installed"
    wanted = f"{LITELLM}\n{PORTKEY}\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", folder / "litellm"],
        [folder / "litellm/bin/pip", "install", "--quiet", LITELLM],
        ["npm", "install", "--silent", "--prefix", folder / "portkey", PORTKEY],
    ]
    for command in commands:
        print(" ".join(map(str, command[:3])), "...", flush=True)
        subprocess.run(command, check=True)  # noqa: S603 - names of two packages, at fixed versions
    stamp.write_text(wanted)


@contextmanager
def running_litellm(bench: Bench, installed: Path) -> Iterator[Served]:
    """Run LiteLLM's proxy with one worker, one key and no database."""
    folder = bench.folder / "litellm"
    folder.mkdir()
    config = {
        "model_list": deployments_at(bench.upstream),
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": "sk-bench"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    options = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    log_path = folder / "litellm.log"
    # Its list of prices is the bundled one: nothing is fetched.
    settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with running(
        [installed / "litellm/bin/litellm", *options, "--num_workers", "1"],
        log_path,
        core=bench.cores.servers,
        folder=folder,
        environment={"PATH": os.environ["PATH"], "HOME": str(folder)} | settings,
    ) as process:
        until_listening(process, log_path, port)
        yield Served(
            port=port,
            routes=dict.fromkeys(
                UPSTREAM_PATHS, Route(headers={"Authorization": "Bearer sk-bench"})
            ),
            process=Measured(process.pid),
        )


@contextmanager
def running_portkey(bench: Bench, installed: Path) -> Iterator[Served]:
    """Run Portkey's gateway, whose headers say where the provider is."""
    folder = bench.folder / "portkey"
    folder.mkdir()
    port = free_port()
    script = installed / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    log_path = folder / "portkey.log"
    with running(
        ["node", script, f"--port={port}", "--headless"],
        log_path,
        core=bench.cores.servers,
        folder=folder,
        environment={"PATH": os.environ["PATH"], "NODE_ENV": "production"},
    ) as process:
        until_listening(process, log_path, port)
        yield Served(
            port=port,
            routes={
                model: Route(
                    headers={
                        "Authorization": "Bearer sk-none",
                        "x-portkey-provider": "openai",
                        "x-portkey-custom-host": f"{bench.upstream.url}{path}/v1",
                    }
                )
                for model, path in UPSTREAM_PATHS.items()
            },
            process=Measured(process.pid),
        )
