"""
The client's body is data: nothing in it changes a route, a credential, a price or a charge.
"""

import inspect
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.world import MESSAGES, World, anthropic, deployment, running, tiers

from relay_middleware.core.endpoints import chat
from relay_middleware.core.endpoints.forbidden import CREDENTIAL_MEMBERS, FORBIDDEN_MEMBERS
from relay_middleware.testing import Behaviour, Simulator

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from litellm.types.router import CredentialLiteLLMParams, LiteLLM_Params

pytestmark = pytest.mark.anyio

# Named by OpenAI itself: these are what a client asks for, and have tests of their own.
ASKED_FOR = (
    set(chat.PAID_MEMBERS)
    | {"model", "messages", "stream", "stream_options", "n", "max_tokens"}
    | {
        "max_completion_tokens",
        "tools",
        "service_tier",
        "user",
        "web_search_options",
        "prediction",
    }
)

# What LiteLLM reads from keyword arguments without naming it in a signature (its Router and proxy).
UNNAMED = {
    "fallbacks", "context_window_fallbacks", "num_retries", "mock_testing_fallbacks",
    "mock_testing_rate_limit_error", "specific_deployment", "disable_fallbacks", "cooldown_time",
    "litellm_params", "litellm_metadata", "metadata", "proxy_server_request", "cost_per_query",
    "_target_order", "_excluded_deployment_ids", "input_cost_per_second", "max_fallbacks",
}  # fmt: skip


def keywords() -> list[str]:
    """Every name that some entry of LiteLLM takes as a keyword argument."""
    names: set[str] = set()
    for function in (litellm.completion, litellm.acompletion, litellm.Router.__init__):
        names |= inspect.signature(function).parameters.keys()
    names |= LiteLLM_Params.model_fields.keys() | CredentialLiteLLMParams.model_fields.keys()
    return sorted((names | UNNAMED | FORBIDDEN_MEMBERS) - ASKED_FOR - {"self", "kwargs", "params"})


FORMS = {"n", "tools", "messages"}
"""Members whose form is checked before anybody is called."""

CHECKED_BY_THE_PROVIDER = {"stop"}
"""Members whose form the simulated provider checks itself."""


@pytest.fixture(name="simulator", scope="module")
def _simulator() -> Simulator:
    simulator = Simulator()
    behaviour = Behaviour(output_tokens=10, reasoning_tokens=0, input_tokens=100)
    simulator.set("live", behaviour)
    simulator.set("translated", replace(behaviour, cached_input_tokens=0))
    return simulator


@pytest.fixture(name="world", scope="module")
async def _world(
    tmp_path_factory: pytest.TempPathFactory, simulator: Simulator
) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("injection")
    async with simulator.serve() as provider:
        config = {
            "model_list": [
                deployment(provider),
                deployment(provider, name="other", profile="x"),
                anthropic(provider, name="claude", profile="translated"),
            ],
            **tiers(),
        }
        async with running(folder, config, simulator) as world:
            yield world


def values(provider: str) -> list[object]:
    """What an attacker would try: an address of its own, another model, a price, a map."""
    return [f"{provider}/evil/v1", "other", 0, {"api_base": f"{provider}/evil/v1"}]


@pytest.mark.parametrize("name", keywords())
async def test_no_keyword_of_litellm_does_anything(world: World, name: str) -> None:
    """
    A member of that name is refused, or reaches the provider as data: same route, key and charge.
    """
    for value in values("http://127.0.0.1:1"):
        before = world.simulator.calls()
        answer = await world.post(
            {"model": "smart", "messages": MESSAGES, "max_tokens": 20, name: value}
        )

        if name in FORBIDDEN_MEMBERS:
            assert answer.json()["error"]["code"] == "forbidden_parameter"
            assert world.simulator.calls() == before
            continue
        if name in CHECKED_BY_THE_PROVIDER and answer.status_code == 400:
            assert answer.json()["error"]["param"] == name
            continue
        assert answer.status_code == 200, answer.text
        (call,) = world.simulator.requests[before - world.simulator.calls() :]
        assert call.profile == "live"
        assert call.headers["authorization"].endswith("cret")
        assert json.loads(call.body)[name] == value
        assert json.loads(call.body)["model"] == "gpt-4o-mini"
        # 50 cached and 50 plain input tokens, 10 of output, at gpt-4o-mini's prices.
        assert answer.json()["relay"]["charge_nano_usd"] == 50 * 75 + 50 * 150 + 10 * 600


@pytest.mark.parametrize("name", keywords())
async def test_no_keyword_of_litellm_does_anything_where_it_translates(
    world: World, name: str
) -> None:
    """
    A member of that name is refused, or changes neither route, key, cap nor charge: it is dropped,
    or what Claude is told lies in the endpoint's list.
    """
    for value in values("http://127.0.0.1:1"):
        before = world.simulator.calls()
        answer = await world.post(
            {"model": "claude", "messages": MESSAGES, "max_tokens": 20, name: value}
        )

        made = (
            world.simulator.requests[before - world.simulator.calls() :]
            if (world.simulator.calls() > before)
            else ()
        )
        if answer.status_code == 400:
            assert name in FORBIDDEN_MEMBERS | chat.ENDPOINT.parameters | FORMS
            assert (name in FORBIDDEN_MEMBERS) <= (made == ())
            continue
        assert answer.status_code == 200, answer.text
        (call,) = made
        assert call.path == "/translated/v1/messages"
        assert call.headers["x-api-key"].endswith("cret")
        sent = json.loads(call.body)
        assert (sent["model"], sent["max_tokens"]) == ("claude-haiku-4-5", 20)
        if name not in chat.ENDPOINT.parameters:
            assert sent.keys() == {"model", "messages", "max_tokens"}
            assert name in answer.headers["x-relay-dropped-parameters"].split(",")
        # 100 plain input tokens and 10 of output, at claude-haiku-4-5's prices.
        assert answer.json()["relay"]["charge_nano_usd"] == 100 * 1000 + 10 * 5000


async def test_forbidden_names_are_litellms(world: World) -> None:
    """
    The list of credential names is the pinned LiteLLM's, to the last field.
    """
    assert CredentialLiteLLMParams.model_fields.keys() == CREDENTIAL_MEMBERS
    assert world.simulator is not None


async def test_client_headers_stay_here(world: World) -> None:
    """
    Nothing of the client's headers goes upstream: no key, no cookie, no forwarded header.
    """
    before = world.simulator.calls()
    headers = {
        "Cookie": "session=1",
        "X-Forwarded-For": "10.0.0.1",
        "OpenAI-Organization": "org-evil",
        "X-Secret": "1",
        "Accept-Encoding": "br",
    }

    await world.post(headers=headers)

    (call,) = world.simulator.requests[before - world.simulator.calls() :]
    assert call.headers["accept-encoding"] == "identity"
    assert not {"cookie", "x-forwarded-for", "openai-organization", "x-secret", "x-customer-id"} & (
        call.headers.keys()
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503])
async def test_provider_text_stays_inside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str],
    *, status: int, stream: bool,
) -> None:  # fmt: skip
    """
    A provider's error names its host and a key: neither reaches the client, a header or a log.
    """
    simulator = Simulator()
    simulator.set("live", Behaviour(status=status))
    async with simulator.serve() as provider:
        config = {"model_list": [deployment(provider)], **tiers()}
        async with running(tmp_path, config, simulator) as world:
            answer = await world.post({"model": "smart", "messages": MESSAGES, "stream": stream})

    printed = capsys.readouterr()
    seen = answer.text + str(answer.headers) + caplog.text + printed.out + printed.err
    assert answer.status_code >= 400
    for secret in ("sk-sim", "simulator.invalid", "sk-operator", "operator-secret"):
        assert secret not in seen
