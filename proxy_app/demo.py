"""
The demo and its simulated providers. Both listen on loopback only: the key is printed, and the
answers are made up.
"""

import asyncio
import ipaddress
import os
import shutil
import sys
from functools import partial
from importlib import resources
from pathlib import Path
from string import Template

import click
import orjson

from proxy_app import serving
from proxy_app.administration import new_operation, opened
from proxy_app.observability import configure_logging
from relay_middleware.config import load_config
from relay_middleware.core.keys import KeyRight
from relay_middleware.errors import ConfigurationError
from relay_middleware.ledger.operations import create_key
from relay_middleware.testing import Behaviour, BehaviourError, Simulator

STATE_DIR = Path(".relay/demo")

CUSTOMER_ID = "cust_abc123"

_BANNER = """\
Relay listens on $address/v1, with simulated providers: the answers are made up, the prices real.

A key that may name customers, for this demo only:

  $api_key

Ask with curl:

curl $address/v1/chat/completions \\
  -H 'Authorization: Bearer $api_key' \\
  -H 'X-ModelRelay-Customer-Id: $customer_id' \\
  -H 'Content-Type: application/json' \\
  -d '{"model": "smart", "messages": [{"role": "user", "content": "Hello!"}]}'

or with the OpenAI client, pasted into $python:

from openai import OpenAI

client = OpenAI(
    base_url="$address/v1",
    api_key="$api_key",
    default_headers={"X-ModelRelay-Customer-Id": "$customer_id"},
)
answer = client.chat.completions.create(
    model="smart", messages=[{"role": "user", "content": "Hello!"}]
)
print(answer.choices[0].message.content, answer.cost_cents)

What it cost, by customer:

$relay usage --config $config_path

Ctrl-C ends the demo.
"""


def run(host: str, port: int) -> None:
    """
    Serve the demo until SIGTERM or Ctrl-C, with an empty database and a key that it prints.

    Raises:
        ConfigurationError: *host* is not loopback, or the port is taken.
    """
    _require_loopback(host)
    listener = serving.listen(host, port)
    # The port is ours, and so is what an earlier demo on it has left.
    state_dir = STATE_DIR / str(listener.getsockname()[1])
    shutil.rmtree(state_dir, ignore_errors=True)
    state_dir.mkdir(parents=True)
    configure_logging(is_readable=True)
    with Simulator().run_in_thread() as provider:
        config_path = _write_config(state_dir, provider)
        # Alone: settings of another installation in the environment are not meant.
        config = load_config(config_path, environ={})
        banner = partial(
            Template(_BANNER).substitute,
            api_key=asyncio.run(_new_key(config.database_url)),
            customer_id=CUSTOMER_ID,
            config_path=config_path,
            relay=os.path.relpath(sys.argv[0]),
            python=os.path.relpath(sys.executable),
        )
        serving.serve_here(
            config, listener, when_ready=lambda address: click.echo(banner(address=address))
        )


def simulate(host: str, port: int, behaviour_path: Path | None) -> None:
    """
    Serve the simulated providers alone, until SIGTERM or Ctrl-C.

    Args:
        behaviour_path: JSON, a `Behaviour` by profile.

    Raises:
        ConfigurationError: *host* is not loopback, the port is taken, or the file is wrong.
    """
    _require_loopback(host)
    simulator = Simulator()
    for profile, behaviour in _behaviours(behaviour_path).items():
        simulator.set(profile, behaviour)
    asyncio.run(_simulate(simulator, host, port))


async def _simulate(simulator: Simulator, host: str, port: int) -> None:
    try:
        async with simulator.serve(host=host, port=port) as address:
            click.echo(f"Simulated providers listen on {address}/v1 and {address}/NAME/v1")
            await serving.until_told_to_end()
    except OSError as error:
        raise serving.cannot_listen(host, port, error) from None


def _behaviours(path: Path | None) -> dict[str, Behaviour]:
    if path is None:
        return {}
    try:
        return _by_profile(orjson.loads(path.read_bytes()))
    except (OSError, orjson.JSONDecodeError, BehaviourError) as error:
        raise ConfigurationError(f"the behaviours in {path} are wrong: {error}") from None


def _by_profile(decoded: object) -> dict[str, Behaviour]:
    if not isinstance(decoded, dict):
        raise BehaviourError("a JSON object with a behaviour by profile is needed")
    return {name: Behaviour.from_json(members) for name, members in decoded.items()}


def _require_loopback(host: str) -> None:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigurationError(
            f"this listens on loopback only, not on {host}; 'relay serve' is for the network"
        )


def _write_config(state_dir: Path, provider: str) -> Path:
    template = Template(resources.files("proxy_app").joinpath("demo.yaml").read_text("utf-8"))
    path = state_dir / "relay.yaml"
    path.write_text(template.substitute(provider=provider, state_dir=state_dir), encoding="utf-8")
    return path


async def _new_key(database_url: str) -> str:
    async with opened(database_url) as database:
        _, secret = await create_key(database, new_operation(), right=KeyRight.NAME_CUSTOMERS)
    return secret
