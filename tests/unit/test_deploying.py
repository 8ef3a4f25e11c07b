"""
From the configuration to deployments.
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from importlib.util import find_spec

import pytest

from relay_middleware.config.values import LitellmParams, ModelEntry
from relay_middleware.core.deployments import Deployment, Timeouts
from relay_middleware.errors import ConfigurationError
from relay_middleware.upstream.deploying import DeploymentPlan, plan_deployments
from relay_middleware.upstream.prices import PriceTable

CHAT = {"input_cost_per_token": Decimal("1e-06"), "output_cost_per_token": Decimal("2e-06")}
TABLE = PriceTable(
    {
        "gpt-a": {**CHAT, "litellm_provider": "openai", "mode": "chat"},
        "groq/fast": {**CHAT, "litellm_provider": "groq"},
        "groq/thinker": {**CHAT, "litellm_provider": "groq", "supports_reasoning": True},
        "cerebras/thinker": {**CHAT, "litellm_provider": "cerebras", "supports_reasoning": True},
        "claude-a": {**CHAT, "litellm_provider": "anthropic", "supports_reasoning": True},
        "mistral/thinker": {**CHAT, "litellm_provider": "mistral", "supports_reasoning": True},
        "embed-a": {**CHAT, "litellm_provider": "openai", "mode": "embedding"},
        "gpt-4o-mini": {
            **CHAT,
            "litellm_provider": "openai",
            "regional_processing_uplift_multiplier_eu": Decimal("1.1"),
        },
        "azure/o9-listed": {**CHAT, "litellm_provider": "azure"},
        "gemini/gemini-listed": {**CHAT, "litellm_provider": "gemini"},
        "ears-a": {**CHAT, "litellm_provider": "openai", "mode": "audio_transcription"},
    }
)


KNOWN = {"anthropic", "azure", "bedrock", "gemini", "mistral", "vertex_ai"}.__contains__
"""Stands for LiteLLM, of whose translated providers there are more."""


def entry(
    model: str,
    credentials: Mapping[str, object] | None = None,
    api_base: str | None = None,
    **more: str | None,
) -> ModelEntry:
    """An entry `smart` of *model*."""
    params = LitellmParams(
        model=model,
        api_key="sk-1",
        api_base=api_base,
        weight=None,
        order=None,
        rates_usd={},
        credentials=credentials or {},
    )
    return ModelEntry(model_name="smart", litellm_params=params, timeouts=Timeouts(), **more)


def planned(*entries: ModelEntry) -> DeploymentPlan:
    return plan_deployments(dict(enumerate(entries)), TABLE, is_known=KNOWN)


def deployed(
    model: str,
    credentials: Mapping[str, object] | None = None,
    api_base: str | None = None,
    **more: str | None,
) -> Deployment:
    (made,) = planned(entry(model, credentials, api_base, **more)).checked()
    return made


@pytest.mark.parametrize(
    ("model", "is_translated", "is_capped"),
    [
        ("openai/gpt-a", False, True),
        ("xai/grok-a", False, False),
        # Groq does not say whether its cap bounds the reasoning.
        ("groq/fast", False, True),
        ("groq/thinker", False, False),
        ("cerebras/thinker", False, True),
        ("anthropic/claude-a", True, True),
        ("claude-a", True, True),
        ("mistral/thinker", True, False),
        ("mistral/unlisted", True, True),
    ],
)
def test_which_wire(model: str, *, is_translated: bool, is_capped: bool) -> None:
    """
    A provider without a dialect is translated; a cap is believed where it is documented, or where
    the model does not reason.
    """
    made = deployed(model)

    assert (made.is_translated, made.is_output_capped) == (is_translated, is_capped)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-a", False),
        ("openai/gpt-4o-mini", False),
        ("openai/embed-a", False),
        # The table says so.
        ("groq/fast", False),
        ("groq/thinker", True),
        # Nobody knows.
        ("hosted_vllm/mine", True),
        ("azure/my-deployment", True),
        # Claude's of before 5 think when asked, at those who sell it.
        ("anthropic/claude-haiku-4-5", False),
        ("bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0", False),
        ("anthropic/claude-opus-5", True),
        ("mistral/claude-haiku-4-5", True),
        # The family, where the table is silent.
        ("azure/o9-listed", True),
        ("gemini/gemini-listed", True),
    ],
)
def test_who_may_think_unasked(model: str, *, expected: bool) -> None:
    """
    A model may think though nobody asks, unless it is known not to.
    """
    made = deployed(model, api_base="http://127.0.0.1:8000/v1")

    assert made.reasons_unasked is expected


@pytest.mark.parametrize(
    ("api_base", "mistakes"),
    [
        ("http://127.0.0.1:8000/v1", []),
        (None, ["smart: hosted_vllm is a server of your own; say where it listens with api_base"]),
    ],
    ids=["said", "not said"],
)
def test_a_server_of_ones_own_has_an_address(api_base: str | None, mistakes: list[str]) -> None:
    """
    Where a provider's address is the operator's to know, a deployment without one is a mistake.
    """
    own = entry("hosted_vllm/my-model")
    own = replace(own, litellm_params=replace(own.litellm_params, api_base=api_base))

    plan = planned(own)

    assert [mistake.message.partition(" (")[0] for mistake in plan.mistakes] == mistakes
    assert [deployment.is_translated for deployment in plan.deployments] == [False] * (not mistakes)


def test_credentials_are_carried_and_not_shown() -> None:
    """
    What LiteLLM calls a credential reaches the deployment, and no printout.
    """
    made = deployed("bedrock/x", {"aws_region_name": "eu-west-1"})

    assert made.credentials == {"aws_region_name": "eu-west-1"}
    assert "eu-west-1" not in repr(made)
    assert "sk-1" not in repr(made)


def test_azures_deployments_are_priced_as_their_base_model() -> None:
    """
    A deployment that the operator named himself costs what the model behind it does.
    """
    named = deployed("azure/my-own-name")
    based = deployed("azure/my-own-name", base_model="openai/gpt-a")

    assert (named.price, based.provider, based.deployment_model) == (None, "azure", "my-own-name")
    assert based.price is not None
    assert based.price.standard.base.input_usd == Decimal("0.000001")


@pytest.mark.parametrize(
    ("model", "mode", "expected"),
    [
        ("openai/embed-a", None, True),
        ("openai/gpt-a", None, False),
        ("openai/unlisted", "embedding", True),
        ("openai/unlisted", None, False),
    ],
)
def test_what_a_model_is_for(model: str, mode: str | None, *, expected: bool) -> None:
    """
    A model makes embeddings where the file or the table says so.
    """
    assert deployed(model, mode=mode).is_embedding is expected


@pytest.mark.parametrize(
    ("model", "is_upgradable", "writes_unasked", "stores_marked"),
    [
        ("openai/gpt-a", True, True, False),
        ("azure/gpt-4o", True, True, False),
        ("groq/fast", False, True, False),
        ("anthropic/claude-a", False, False, False),
        ("bedrock/anthropic.claude-b", False, False, False),
        ("bedrock/amazon.nova", False, True, False),
        ("vertex_ai/claude-b", False, False, False),
        ("vertex_ai/gemini-b", False, True, True),
        ("gemini/gemini-b", False, True, True),
        ("mistral/claude-like", False, True, False),
    ],
)
def test_what_a_provider_does_unasked(
    model: str, *, is_upgradable: bool, writes_unasked: bool, stores_marked: bool
) -> None:
    """
    OpenAI and Azure may serve a dearer tier, all but Claude's sellers may write to a cache, and
    Google stores what is marked.
    """
    made = deployed(model)

    assert made.is_upgradable is is_upgradable
    assert made.writes_cache_unasked is writes_unasked
    assert made.stores_marked_input is stores_marked


def test_a_server_like_openais_upgrades_nobody() -> None:
    """
    Where OpenAI does not serve, it has no project's setting.
    """
    assert not deployed("openai/gpt-a", api_base="http://127.0.0.1:1/v1").is_upgradable
    assert deployed("openai/gpt-a", api_base="https://eu.api.openai.com/v1").is_upgradable


def test_a_place_is_in_the_price() -> None:
    """
    At OpenAI's European address the model costs a tenth more.
    """
    there = deployed("openai/gpt-4o-mini", api_base="https://eu.api.openai.com/v1")

    assert there.price is not None
    assert there.price.standard.base.input_usd == Decimal("0.0000011")


def test_by_which_vocabulary_tokens_are_counted() -> None:
    """
    A model has that of its name, or of the model behind it.
    """
    named = deployed("openai/gpt-4o-mini")
    based = deployed("azure/my-own-name", base_model="azure/gpt-4o-mini")

    assert (named.encoding, based.encoding) == ("o200k_base", "o200k_base")
    assert deployed("anthropic/claude-a").encoding is None


def test_every_mistake_of_the_list_is_told_with_its_entry() -> None:
    """
    An unknown provider, a credential that a direct wire does not take and half a price: all three
    are told at once, each with its place.
    """
    half_priced = entry("openai/unlisted")
    params = replace(half_priced.litellm_params, rates_usd={"input_usd": Decimal("1e-6")})
    plan = planned(
        entry("antropic/claude-a"),
        entry("openai/gpt-a"),
        entry("openai/gpt-a", {"api_version": "v1", "client_id": "id"}),
        replace(half_priced, litellm_params=params),
    )

    told = {mistake.path[1]: mistake.message for mistake in plan.mistakes}
    assert [each.deployment_id for each in plan.deployments] == ["smart#2"]
    assert told.keys() == {0, 2, 3}
    assert "there is no provider 'antropic'; write it as LiteLLM does" in told[0]
    assert told[2].endswith(
        "openai takes api_key and api_base alone; remove api_version, client_id"
    )
    assert "output" in told[3]
    with pytest.raises(ConfigurationError, match=r"3 mistakes:\n  model_list\[0\]"):
        plan.checked()


def test_an_unpriced_model_is_a_warning() -> None:
    """
    A model without a price can be served, and its operator is told what that means.
    """
    (warning,) = planned(entry("openai/unlisted")).warnings

    assert warning.path == ("model_list", 0, "litellm_params")
    assert "openai/unlisted has no known price" in warning.message


def test_azures_own_names_are_priced_by_what_is_behind_them() -> None:
    """
    Of a deployment that its operator named, it is told how its model is named too.
    """
    (warning,) = planned(entry("azure/my-own-name")).warnings

    assert warning.message.endswith("or name the model behind it in model_info.base_model.")


@pytest.mark.parametrize(
    ("api_base", "reason"),
    [
        ("ftp://models.example/v1", "its address is none of http or https"),
        ("http://models\x7f.example/v1", "its address has a host or a port that is none"),
    ],
)
def test_an_address_that_nothing_can_be_sent_to_is_a_mistake(api_base: str, reason: str) -> None:
    """
    It is told at the start, and not to the first client.
    """
    (mistake,) = planned(entry("openai/gpt-a", api_base=api_base)).mistakes

    assert reason in mistake.message
    assert mistake.message.endswith("correct api_base or api_key")


def test_a_model_for_something_else_is_a_mistake() -> None:
    """
    What the table has for sound or pictures is refused, unless the file says that it chats.
    """
    (mistake,) = planned(entry("openai/ears-a")).mistakes

    assert "smart: openai/ears-a is for audio_transcription, says the price table" in (
        mistake.message
    )
    assert deployed("openai/ears-a", mode="chat").is_embedding is False


@pytest.mark.skipif(find_spec("google") is not None, reason="google-auth is installed here")
def test_a_package_that_is_not_installed_is_a_warning() -> None:
    """
    LiteLLM signs Google's calls with a package that Relay does not bring.
    """
    warnings = planned(entry("vertex_ai/gemini-a")).warnings

    assert warnings[-1].message == "smart: vertex_ai needs a package: pip install google-auth"
