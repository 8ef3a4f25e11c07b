"""
Published configurations of LiteLLM's proxy, pasted in: each line that cannot stay is explained, and
with every explanation followed the file serves. Their origin is in `tests/data/litellm/README.md`.
"""

import inspect
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from fixtures.world import MESSAGES, running, tiers
from litellm import Router
from litellm.types.router import LiteLLM_Params, ModelInfo

from proxy_app.cli import main
from relay_middleware.config.loading import examine
from relay_middleware.config.schema import ModelInfoSection, ParamsSection, RouterSection
from relay_middleware.testing import Behaviour, Simulator

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DATA = Path(__file__).parent.parent / "data/litellm"

MISTAKES = {"proxy_server_config": 47, "dev_config": 6, "ciris_proxy": 16}
"""Of each published file, without the section `tiers`, which is none of LiteLLM's."""

DEPLOYMENTS = {"proxy_server_config": 19, "dev_config": 40, "ciris_proxy": 17}
"""Of each mended file. The first loses an image model and three wildcards, wins two models for the
wildcards, and lists two deployments again under their alias: 19 - 1 - 3 + 2 + 2."""

TIERS = """
tiers:
  free: {models: ["*"], spend_limits: [{cents: 50, per: day}]}
customers: {default_tier: free}
"""
"""What the documentation tells to append."""

REMEDY = re.compile(
    r"\b(remove|write|set|move|name|list|use|make|mount|give|let|keep|fill|did you mean)\b"
)

Check = Callable[[str], tuple[int, dict[str, Any]]]


@pytest.fixture(name="check")
def _check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """`relay check litellm.yaml`, where the environment has every variable of the file."""
    monkeypatch.chdir(tmp_path)

    def check(text: str) -> tuple[int, dict[str, Any]]:
        Path("litellm.yaml").write_text(text, encoding="utf-8")
        names = re.findall(r"os\.environ/(\w+)", text)
        environ = dict.fromkeys(names, "https://llm.example/") | {"REDIS_URL": "redis://cache"}
        result = CliRunner(env=environ).invoke(main, ["check", "litellm.yaml", "--json"])
        return result.exit_code, json.loads(result.stdout)

    return check


def published(name: str) -> str:
    return (DATA / f"{name}.yaml").read_text("utf-8")


def mended(name: str) -> str:
    return (DATA / f"{name}.mended.yaml").read_text("utf-8")


@pytest.mark.parametrize(("name", "count"), MISTAKES.items(), ids=MISTAKES)
def test_a_published_file_is_explained(check: Check, name: str, count: int) -> None:
    """
    With tiers appended, exactly the lines that cannot stay are told, each with its number and what
    to do; the whole text is pinned.
    """
    code, told = check(published(name) + TIERS)

    mistakes, warnings = told["mistakes"], told["warnings"]
    assert (code, len(mistakes)) == (2, count)
    assert [each for each in mistakes if each["line"] is None] == []
    assert [each for each in mistakes if not REMEDY.search(each["message"])] == []
    # That a package is missing is told of the machine.
    of_file = [each for each in warnings if "needs a package" not in each["message"]]
    assert lines(mistakes) + "\n" + lines(of_file) == (
        (DATA / f"{name}.findings.txt").read_text("utf-8")
    )


def lines(findings: Sequence[Mapping[str, object]]) -> str:
    return "".join("line {line}: {place}: {message}\n".format_map(each) for each in findings)


@pytest.mark.parametrize("name", MISTAKES)
def test_as_published_it_lacks_tiers(check: Check, name: str) -> None:
    """
    Without tiers one mistake is added, which shows how they are written.
    """
    _, without = check(published(name))
    _, told = check(published(name) + TIERS)

    first, *others = without["mistakes"]
    assert (first["line"], first["place"]) == (None, "tiers")
    assert "tiers: {free: {models:" in first["message"]
    assert "customers: {default_tier: free}" in first["message"]
    assert others == told["mistakes"]


@pytest.mark.parametrize(("name", "count"), DEPLOYMENTS.items(), ids=DEPLOYMENTS)
def test_a_mended_file_is_right(check: Check, name: str, count: int) -> None:
    """
    With every remedy applied the file loads, with every deployment and fallback.
    """
    code, told = check(mended(name))
    models = told["models"]
    fallbacks = yaml.safe_load(published(name)).get("router_settings", {}).get("fallbacks", [])

    assert (code, len(models)) == (0, count)
    assert {each["model"]: each["fallbacks"] for each in models if each["fallbacks"]} == {
        source: ", ".join(targets) for item in fallbacks for source, targets in item.items()
    }


@pytest.fixture(name="simulator")
def _simulator() -> Simulator:
    return Simulator()


@pytest.fixture(name="provider")
async def _provider(simulator: Simulator) -> AsyncIterator[str]:
    async with simulator.serve() as url:
        yield url


def simulated(config: Mapping[str, Any], provider_url: str) -> dict[str, Any]:
    """*config* with the simulator in place of each provider, one profile for each."""
    changed = json.loads(json.dumps(config))
    for entry in changed["model_list"]:
        params = entry["litellm_params"]
        provider = params["model"].partition("/")[0] if "/" in params["model"] else "openai"
        params |= {"api_key": "sk-1", "api_base": f"{provider_url}/{provider}/v1"}
    unlimited = tiers(spend_limits=[])
    return changed | unlimited


async def test_a_mended_file_serves(tmp_path: Path, simulator: Simulator, provider: str) -> None:
    """
    All 17 models of the file answer, through four providers; when one of them is down, its models
    with a fallback are answered by the next provider, as the file has it.
    """
    config = simulated(yaml.safe_load(mended("ciris_proxy")), provider)
    async with running(tmp_path, config, simulator) as world:
        models = [entry["model_name"] for entry in config["model_list"]]
        answers = {model: await world.post(asking(model)) for model in models}
        simulator.set("openrouter", Behaviour(status=500))
        fallen = await world.post(asking("default"))

    assert len(models) == 17
    assert {model: answer.status_code for model, answer in answers.items()} == dict.fromkeys(
        models, 200
    )
    assert answers["default"].headers["x-relay-provider"] == "openrouter"
    assert (fallen.status_code, fallen.headers["x-relay-provider"]) == (200, "groq")
    assert fallen.headers["x-relay-attempts"] == "2"


def asking(model: str) -> dict[str, object]:
    return {"model": model, "messages": MESSAGES, "max_tokens": 5}


PLACES = {
    "router_settings: {KEY: 1}": inspect.signature(Router).parameters,
    "model_list: [{litellm_params: {KEY: 1}}]": LiteLLM_Params.model_fields,
    "model_list: [{model_info: {KEY: 1}}]": ModelInfo.model_fields,
}
READ = {
    *RouterSection.model_fields,
    *ParamsSection.model_fields,
    *ModelInfoSection.model_fields,
    "model_list",
}


def test_every_key_that_litellm_declares_is_explained() -> None:
    """
    Whatever LiteLLM's router, deployments and model information take is read, or refused with what
    to do about it.
    """
    unexplained = {
        (place, key)
        for place, keys in PLACES.items()
        for key in keys.keys() - READ
        if not any(
            finding.place.endswith(f".{key}") and REMEDY.search(finding.message)
            for finding in examine(place.replace("KEY", key), {}).mistakes
        )
    }

    assert unexplained == set()
