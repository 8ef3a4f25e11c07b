"""
From the configuration to deployments.
"""

from decimal import Decimal

import pytest

from relay_middleware.config.values import LitellmParams, ModelEntry
from relay_middleware.core.deployments import Deployment, Timeouts
from relay_middleware.upstream.deploying import to_deployments
from relay_middleware.upstream.prices import PriceTable

CHAT = {"input_cost_per_token": Decimal("1e-06"), "output_cost_per_token": Decimal("2e-06")}
TABLE = PriceTable(
    {
        "gpt-a": {**CHAT, "litellm_provider": "openai", "mode": "chat"},
        "groq/fast": {**CHAT, "litellm_provider": "groq"},
        "groq/thinker": {**CHAT, "litellm_provider": "groq", "supports_reasoning": True},
        "claude-a": {**CHAT, "litellm_provider": "anthropic", "supports_reasoning": True},
        "mistral/thinker": {**CHAT, "litellm_provider": "mistral", "supports_reasoning": True},
        "embed-a": {**CHAT, "litellm_provider": "openai", "mode": "embedding"},
    }
)


def entry(model: str, **more: str | None) -> ModelEntry:
    """An entry `smart` of *model*."""
    params = LitellmParams(
        model=model,
        api_key="sk-1",
        api_base=None,
        weight=None,
        order=None,
        rates_usd={},
        credentials={"aws_region_name": "eu-west-1"},
    )
    return ModelEntry(model_name="smart", litellm_params=params, timeouts=Timeouts(), **more)


def deployed(model: str, **more: str | None) -> Deployment:
    (made,), _ = to_deployments([entry(model, **more)], TABLE)
    return made


@pytest.mark.parametrize(
    ("model", "is_translated", "is_capped"),
    [
        ("openai/gpt-a", False, True),
        ("xai/grok-a", False, False),
        # Groq does not say whether its cap bounds the reasoning.
        ("groq/fast", False, True),
        ("groq/thinker", False, False),
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


def test_credentials_are_carried_and_not_shown() -> None:
    """
    What LiteLLM calls a credential reaches the deployment, and no printout.
    """
    made = deployed("bedrock/x")

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
