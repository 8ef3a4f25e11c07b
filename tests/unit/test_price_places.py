"""
Prices that depend on more than the model's name: on where it is, and on what it makes.
"""

from decimal import Decimal

import pytest

from relay_middleware.core.pricing import RateCard, Rates
from relay_middleware.upstream.prices import PriceTable, place_of, resolve_price

CHAT = {
    "mode": "chat",
    "input_cost_per_token": Decimal("2e-06"),
    "output_cost_per_token": Decimal("8e-06"),
}
DRAWS = {
    **CHAT,
    "litellm_provider": "openai",
    "supported_output_modalities": ["text", "image"],
}
TABLE = PriceTable(
    {
        "gpt-a": {**CHAT, "litellm_provider": "openai"},
        "gpt-eu": {
            **CHAT,
            "litellm_provider": "openai",
            "regional_processing_uplift_multiplier_eu": Decimal("1.1"),
        },
        "vertex_ai/gemini-a": {
            **CHAT,
            "litellm_provider": "vertex_ai",
            "regional_endpoint_uplift_multiplier": Decimal("1.1"),
        },
        "claude-a": {**CHAT, "litellm_provider": "bedrock_converse"},
        "bedrock/us-gov-west-1/claude-a": {
            **CHAT,
            "litellm_provider": "bedrock",
            "input_cost_per_token": Decimal("4e-06"),
        },
        "gpt-ranged": {
            **CHAT,
            "litellm_provider": "openai",
            "tiered_pricing": [{}],
            "max_output_tokens": 7,
        },
        "gpt-image": DRAWS,
        "gpt-5-image-mini": DRAWS,
        "gpt-draws": DRAWS,
    }
)


@pytest.mark.parametrize(
    ("model", "is_priced"),
    [
        ("gpt-image", False),
        ("gpt-5-image-mini", False),
        ("gpt-draws", True),
        ("gpt-a", True),
    ],
)
def test_pictures_without_a_price(model: str, *, is_priced: bool) -> None:
    """
    A model that is called after its pictures, and has no price for them, has none; what the table
    says of others by mistake does not count.
    """
    assert (TABLE.find("openai", model) is not None) is is_priced


@pytest.mark.parametrize(
    ("provider", "api_base", "credentials", "expected"),
    [
        ("openai", None, {}, None),
        ("openai", "https://llm.example/v1", {}, None),
        ("openai", "https://eu.api.openai.com/v1", {}, "eu"),
        ("vertex_ai", None, {"vertex_location": "Global"}, "global"),
        ("vertex_ai", None, {}, None),
        ("bedrock", None, {"aws_region_name": "us-gov-west-1"}, "us-gov-west-1"),
        ("bedrock", None, {"vertex_location": "global"}, None),
    ],
    ids=str,
)
def test_where_a_deployment_is(
    provider: str, api_base: str | None, credentials: dict[str, object], expected: str | None
) -> None:
    """
    OpenAI's place is in its address, that of others among their credentials.
    """
    assert place_of(provider, api_base, credentials) == expected


@pytest.mark.parametrize(
    ("provider", "model", "place", "input_usd"),
    [
        ("openai", "gpt-eu", None, "0.000002"),
        ("openai", "gpt-eu", "eu", "0.0000022"),
        ("openai", "gpt-eu", "us", "0.000002"),
        ("openai", "gpt-a", "eu", "0.000002"),
        ("vertex_ai", "gemini-a", "global", "0.000002"),
        ("vertex_ai", "gemini-a", "us-east5", "0.0000022"),
        # LiteLLM calls a region where none is named.
        ("vertex_ai", "gemini-a", None, "0.0000022"),
        ("bedrock", "claude-a", None, "0.000002"),
        ("bedrock", "claude-a", "eu-west-1", "0.000002"),
        ("bedrock", "claude-a", "us-gov-west-1", "0.000004"),
        ("bedrock", "converse/claude-a", "us-gov-west-1", "0.000004"),
    ],
)
def test_a_place_has_its_price(
    provider: str, model: str, place: str | None, input_usd: str
) -> None:
    """
    A share on top, or an entry of its own, is in the price of a deployment in that place.
    """
    price = TABLE.find(provider, model, place)

    assert price is not None
    assert price.standard.base.input_usd == Decimal(input_usd)


def test_a_configured_price_keeps_the_tables_limits() -> None:
    """
    A model that the table prices by ranges has its longest answer from there, and its rates from
    the configuration.
    """
    rates = {"input_usd": Decimal("0.000002"), "output_usd": Decimal("0.000008")}

    resolved = resolve_price(
        TABLE, provider="openai", deployment_model="gpt-ranged", rates_usd=rates, source="smart"
    )

    assert resolved.price is not None
    assert resolved.price.standard == RateCard(base=Rates(**rates))
    assert resolved.price.max_output_tokens == 7
