"""
The price table, and what an operator configures over it.
"""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fixtures.requirements import missing

from relay_middleware.core.pricing import ModelPrice, RateCard, Rates, cost_usd
from relay_middleware.core.usage import from_openai
from relay_middleware.errors import ConfigurationError
from relay_middleware.upstream import prices
from relay_middleware.upstream.prices import PriceTable, load_price_table, resolve_price

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "recorded_usages.json"

DIFFERENT = {
    "gpt-5.6-sol",  # costs less since August 2026, when the other table was made
    "gpt-4o-audio-preview-2024-12-17",  # the other table has no price for audio
}
"""Models for which the two tables, not the two programs, differ."""

CHAT = {
    "mode": "chat",
    "input_cost_per_token": Decimal("2e-06"),
    "output_cost_per_token": Decimal("8e-06"),
}
TABLE = PriceTable(
    {
        "gpt-a": {**CHAT, "litellm_provider": "openai"},
        "xai/grok-a": {**CHAT, "litellm_provider": "xai"},
        "ft:gpt-a": {**CHAT, "litellm_provider": "openai"},
        "text-embedding-a": {
            "mode": "embedding",
            "litellm_provider": "openai",
            "input_cost_per_token": Decimal("9e-03"),
        },
        "image-a": {"mode": "image_generation", "litellm_provider": "openai"},
    }
)
PLAIN = ModelPrice(
    standard=RateCard(base=Rates(input_usd=Decimal("0.000002"), output_usd=Decimal("0.000008")))
)


@pytest.fixture(name="table", scope="module")
def _table() -> PriceTable:
    """The table of the installed LiteLLM."""
    return load_price_table()


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-a"), ("xai", "grok-a"), ("openai", "ft:gpt-a:my-company::8kD3")],
)
def test_finds_a_model_as_litellm_names_it(provider: str, model: str) -> None:
    """
    A model is found by its bare name, with its provider before it, and fine-tuned.
    """
    assert TABLE.find(provider, model) == PLAIN


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-b"), ("azure", "gpt-a"), ("openai", "grok-a"), ("openai", "image-a")],
)
def test_does_not_guess(provider: str, model: str) -> None:
    """
    An unknown model, one of another provider, and one not priced by the token have no price.
    """
    assert TABLE.find(provider, model) is None


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-haiku-4-5"),
        ("vertex_ai", "gemini-2.5-pro"),
        ("gemini", "gemini-2.5-pro"),
        ("bedrock", "anthropic.claude-3-5-sonnet-20240620-v1:0"),
        ("bedrock", "converse/anthropic.claude-3-5-sonnet-20240620-v1:0"),
        ("cohere", "command-r-plus-08-2024"),
        ("groq", "openai/gpt-oss-20b"),
        ("cerebras", "gpt-oss-120b"),
        ("mistral", "mistral-large-latest"),
        ("azure", "gpt-4o"),
    ],
)
def test_knows_models_of_every_shape(table: PriceTable, provider: str, model: str) -> None:
    """
    Families (`vertex_ai-language-models`, `bedrock_converse`, `cohere_chat`) and routes of a
    provider's models are its own.
    """
    assert table.find(provider, model) is not None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("claude-haiku-4-5", ("anthropic", "claude-haiku-4-5")),
        ("gpt-4o", ("openai", "gpt-4o")),
        ("nobody-knows", ("openai", "nobody-knows")),
        ("gemini/gemini-2.5-pro", ("gemini", "gemini-2.5-pro")),
        ("bedrock/converse/x", ("bedrock", "converse/x")),
        ("gemini-2.5-pro", ("vertex_ai", "gemini-2.5-pro")),
    ],
)
def test_a_bare_name_is_its_makers(table: PriceTable, name: str, expected: tuple[str, str]) -> None:
    """
    A name without a provider is of the one that the table says has it, else of OpenAI.
    """
    assert table.provider_and_model(name) == expected


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-search-preview"),
        ("openai", "gpt-5-search-api"),
        ("perplexity", "sonar"),
        ("gemini", "deep-research-pro-preview-12-2025"),
        ("vercel_ai_gateway", "perplexity/sonar-pro"),
        ("xai", "grok-4.20-multi-agent"),
        ("azure", "model-router"),
        ("azure_ai", "model_router"),
        ("aihubmix", "gemini-3-flash-preview-search"),
    ],
)
def test_what_is_bought_with_every_answer_has_no_price_per_token(
    table: PriceTable, provider: str, model: str
) -> None:
    """
    A model that buys a search, or other models' work, with each answer is unpriced: its fee would
    be lost.
    """
    assert table.entry(provider, model) is not None
    assert table.find(provider, model) is None


def test_chat_rates_are_those_of_chat_models() -> None:
    """
    Embeddings and images are nothing to compare the price of a chat model with.
    """
    assert TABLE.chat_rates() == (PLAIN.standard.base,) * 3


def test_reading_the_table_does_not_import_litellm() -> None:
    """
    The prices are there without the seconds that importing LiteLLM takes.
    """
    script = (
        "import sys; from relay_middleware.upstream.prices import load_price_table;"
        "assert load_price_table().entries; assert 'litellm' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)  # noqa: S603 # our own


def test_prices_are_the_tables_text(table: PriceTable) -> None:
    """
    gpt-4o-mini costs 0.15 in, 0.075 cached and 0.60 USD out per million tokens, exactly.
    """
    price = table.find("openai", "gpt-4o-mini")

    assert price is not None
    assert price.standard.base == Rates(
        input_usd=Decimal("0.00000015"),
        cached_input_usd=Decimal("0.000000075"),
        output_usd=Decimal("0.0000006"),
    )
    assert (price.max_input_tokens, price.max_output_tokens) == (128_000, 16_384)


def test_a_new_dialect_is_priced_by_its_own_entries(table: PriceTable) -> None:
    """
    Cerebras' gpt-oss-120b costs 0.35 in and 0.75 USD out per million tokens; on a server of one's
    own the same model costs what its operator says.
    """
    price = table.find("cerebras", "gpt-oss-120b")

    assert price is not None
    assert price.standard.base == Rates(
        input_usd=Decimal("0.00000035"), output_usd=Decimal("0.00000075")
    )
    assert price.may_reason
    assert table.find("hosted_vllm", "gpt-oss-120b") is None


def test_every_entry_is_read(table: PriceTable) -> None:
    """
    No entry of the real table breaks the reader, and most of its chat models are priced.
    """
    chat = [entry for entry in table.entries.values() if entry.get("mode") == "chat"]

    assert len(table.chat_rates()) > 0.9 * len(chat)


def test_without_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """
    Where LiteLLM or its table is missing, that is said, and nothing is free.
    """
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "litellm", raising=False)
    with pytest.raises(ConfigurationError, match="is not installed"):
        load_price_table()

    (tmp_path / "litellm").mkdir()
    (tmp_path / "litellm" / "__init__.py").touch()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_price_table()


def test_without_configuration_the_table_counts() -> None:
    """
    A deployment with no configured price has the table's, and no warning.
    """
    resolved = resolve_price(
        TABLE, provider="openai", deployment_model="gpt-a", rates_usd={}, source="smart"
    )

    assert resolved == prices.ResolvedPrice(price=PLAIN)


def test_a_configured_price_wins() -> None:
    """
    What is configured replaces the table's rate; what is not stays.
    """
    resolved = resolve_price(
        TABLE,
        provider="openai",
        deployment_model="gpt-a",
        rates_usd={"input_usd": Decimal("0.000001")},
        source="smart",
    )

    assert resolved.warning is None
    assert resolved.price == ModelPrice(
        standard=RateCard(base=Rates(input_usd=Decimal("0.000001"), output_usd=Decimal("0.000008")))
    )


def test_half_a_price_of_an_unknown_model() -> None:
    """
    A deployment that the table does not know needs both prices; the message says which is missing.
    """
    with pytest.raises(ConfigurationError, match="smart: output_cost_per_token must be set too"):
        resolve_price(
            TABLE,
            provider="openai",
            deployment_model="gpt-b",
            rates_usd={"input_usd": Decimal(1)},
            source="smart",
        )


@pytest.mark.parametrize("model", ["gpt-a", "gpt-b"], ids=["known", "unknown"])
def test_an_implausible_price_is_told(model: str) -> None:
    """
    2 USD a token, a price per million in the wrong place, is compared with the model's own price or
    with all chat models', and told with its source.
    """
    resolved = resolve_price(
        TABLE,
        provider="openai",
        deployment_model=model,
        rates_usd={"input_usd": Decimal(2), "output_usd": Decimal("0.000008")},
        source="smart",
    )

    assert resolved.warning == (
        "smart: input_usd is 2000000 USD per million tokens, and the nearest price known is 2"
    )


def test_agrees_with_another_price_table(table: PriceTable) -> None:
    """
    Recorded OpenAI answers cost here what another project's table and code say they do, apart from
    the models that it prices otherwise.
    """
    if not RECORDED.exists():
        missing("recorded usages", f"{RECORDED.name} is not beside the repository")
    compared = [
        pair for record in json.loads(RECORDED.read_text()) for pair in _costs(table, record)
    ]

    assert len(compared) > 50
    assert {model for model, ours, theirs in compared if ours != theirs} <= DIFFERENT


# Any: a record is what was recorded, in the form that its README describes.
def _costs(table: PriceTable, record: dict[str, Any]) -> list[tuple[str, Decimal, Decimal]]:
    """Model, our cost and theirs, where the body is OpenAI's and all of its tokens are plain."""
    model = record["model"] or ""
    price = table.find("openai", model)
    usage = from_openai(record["body"].get("usage"), reasoning_in_output=True)
    if price is None or usage is None or "completion_tokens" not in record["body"]["usage"]:
        return []
    counts = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return [
        (
            model,
            cost_usd(price, usage),
            Decimal(each["input_price"]) + Decimal(each["output_price"]),
        )
        for extracted in record["extracted"]
        if {name: extracted["usage"].get(name, 0) for name in counts} == counts
        and extracted["usage"].get("cache_read_tokens", 0) == usage.cached_input_tokens
        for each in extracted["priced_as"]
        if (each["provider_id"], each["api_flavor"]) == ("openai", "chat")
    ]
