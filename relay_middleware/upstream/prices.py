"""
The price table that LiteLLM is delivered with, and the operator's own prices over it.

The table is read as text and LiteLLM is not imported: that would take seconds, and floats are not
exact.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from relay_middleware.core.price_entries import (
    from_litellm_entry,
    implausible_price,
    multiplied,
    override,
)
from relay_middleware.core.price_keys import usd
from relay_middleware.core.pricing import ModelPrice, Rates
from relay_middleware.errors import ConfigurationError

_DEFAULT_PROVIDER = "openai"
"""Of a model named without one that the table does not know either, as at LiteLLM."""

_ROUTES = ("converse/", "converse_like/", "invoke/", "responses/", "o_series/", "gpt5_series/")
"""What LiteLLM takes before a model's name as a choice among a provider's interfaces.
Source: LiteLLM 1.106.2, `llms/bedrock/common_utils.py` and `main.py`."""

_BUYING = re.compile(
    r"(?:^|[-/])(?:deep-research|search|sonar|online|compound|multi-agent|model[-_]router)(?:[-:]|$)"
)
"""Models that buy something with every answer that no count of its tokens tells: searches and other
tools, the work of further models, another model's answer.

Source: OpenAI, "Web search" (`gpt-4o-search-preview`, `gpt-5-search-api`, `o3-deep-research`);
Perplexity, "Pricing" (a fee per request of every Sonar model); read 2026-11-23. Groq, "Systems"
(`groq/compound`, tools by itself); xAI, "Multi-agent"; OpenRouter, "Web search" (names that end in
`:online`); Microsoft, "Model router" (its own fee is what the table has, beside the price of the
model that it picks); read 2026-11-24.
"""

_DRAWING = re.compile(r"(?:^|[-/])image(?:[-:]|$)")
"""Models whose pictures are tokens of their own, where the table has no price for those."""

_OPENAI_PLACES: Mapping[str, str] = {"eu.api.openai.com": "eu", "us.api.openai.com": "us"}
"""OpenAI's hosts that keep data in a place, for a share of the price.
Source: LiteLLM 1.106.2, `llms/openai/data_residency.py`."""

_TABLE_FILE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True, slots=True)
class PriceTable:
    """
    LiteLLM's price table.

    Attributes:
        entries: By LiteLLM's name of the model, decoded with `parse_float=Decimal`.
    """

    entries: Mapping[str, Mapping[str, object]]

    def provider_and_model(self, name: str) -> tuple[str, str]:
        """
        Cut LiteLLM's *name* of a model into its provider and the name there.

        A bare name is of the provider that the table says has it, else of OpenAI.
        """
        provider, slash, model = name.partition("/")
        if slash:
            return provider, model
        listed = self.entries.get(_base_model(name), {}).get("litellm_provider")
        return (_family(listed) if isinstance(listed, str) else _DEFAULT_PROVIDER), name

    def entry(
        self, provider: str, model: str, place: str | None = None
    ) -> Mapping[str, object] | None:
        """
        Return what the table says of *model* at *provider*, and in *place* where that has an entry
        of its own.

        A bare name counts only where the table says that it is this provider's: the same model
        costs something else elsewhere.
        """
        bare = _unrouted(model)
        names = (
            f"{provider}/{place}/{bare}",
            f"{provider}/{model}",
            _base_model(model),
            _base_model(bare),
        )
        for name in names:
            entry = self.entries.get(name)
            if entry is None:
                continue
            listed = entry.get("litellm_provider")
            is_its = name.startswith(f"{provider}/") or (
                isinstance(listed, str) and _family(listed) == _family(provider)
            )
            if is_its:
                return entry
        return None

    def find(self, provider: str, model: str, place: str | None = None) -> ModelPrice | None:
        """
        Return the price of *model* at *provider*, or None where it is not known by the token.

        Args:
            place: As from `place_of`.
        """
        entry = self.entry(provider, model, place)
        if entry is None or _buys_more(entry, model):
            return None
        price = from_litellm_entry(entry)
        factor = _uplift(entry, provider, place)
        return price if price is None or factor is None else multiplied(price, factor)

    def chat_rates(self) -> tuple[Rates, ...]:
        """Return the standard rates of all chat models that are priced by the token."""
        prices = (
            from_litellm_entry(entry)
            for entry in self.entries.values()
            if entry.get("mode") == "chat"
        )
        return tuple(price.standard.base for price in prices if price is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedPrice:
    """
    The price that applies to a deployment.

    Attributes:
        price: None where neither the configuration nor the table has one.
        warning: In what a configured price is implausible, or None.
    """

    price: ModelPrice | None
    warning: str | None = None


def load_price_table() -> PriceTable:
    """
    Read the table of the installed LiteLLM, without importing it.

    Raises:
        ConfigurationError: LiteLLM is not installed, or without its table.
    """
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError("LiteLLM is not installed, and with it the table of prices")
    path = Path(spec.submodule_search_locations[0], _TABLE_FILE)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"LiteLLM's table of prices cannot be read: {error}") from error
    return PriceTable(json.loads(text, parse_float=Decimal))


def resolve_price(
    table: PriceTable,
    *,
    provider: str,
    deployment_model: str,
    rates_usd: Mapping[str, Decimal],
    source: str,
    place: str | None = None,
) -> ResolvedPrice:
    """
    Return the price of a deployment: the table's, with the configured rates in place of its own.

    Args:
        rates_usd: As configured, US dollars per token by field of `Rates`; may be empty.
        source: What names the deployment in messages.
        place: As from `place_of`.

    Raises:
        ConfigurationError: The table has no such model, and input or output are not configured.
    """
    known = table.find(provider, deployment_model, place)
    if not rates_usd:
        return ResolvedPrice(price=known)
    try:
        entry = table.entry(provider, deployment_model, place)
        price = override(known, rates_usd, entry=entry)
    except ValueError as error:
        raise ConfigurationError(f"{source}: {error}") from None
    references = (known.standard.base,) if known is not None else table.chat_rates()
    warning = implausible_price(rates_usd, references)
    return ResolvedPrice(price=price, warning=None if warning is None else f"{source}: {warning}")


def _base_model(model: str) -> str:
    """
    The table's name of a fine-tuned model, `ft:gpt-4o-mini-2024-07-18`, or *model* itself.

    Source: OpenAI API reference, "Fine-tuning", names of the form `ft:BASE:ORGANISATION:NAME:ID`.
    """
    return ":".join(model.split(":")[:2]) if model.startswith("ft:") else model


def _unrouted(model: str) -> str:
    return next((model.removeprefix(route) for route in _ROUTES if model.startswith(route)), model)


def _family(provider: str) -> str:
    """
    The name that a provider is configured by: the table divides some by kinds of models.

    Source: LiteLLM 1.106.2, `litellm_provider` of its table: `vertex_ai-language-models`,
    `bedrock_converse`, `cohere_chat`, `text-completion-openai`.
    """
    name = provider.removeprefix("text-completion-").removesuffix("_chat")
    if name.startswith("vertex_ai"):
        return "vertex_ai"
    if name.startswith("bedrock"):
        return "bedrock"
    return name


def _buys_more(entry: Mapping[str, object], model: str) -> bool:
    if _BUYING.search(model) is not None:
        return True
    made = entry.get("supported_output_modalities")
    draws = isinstance(made, list) and "image" in made and _DRAWING.search(model) is not None
    return draws and "output_cost_per_image_token" not in entry


def place_of(provider: str, api_base: str | None, credentials: Mapping[str, object]) -> str | None:
    """
    Return where a deployment is, by the name that its price may depend on; None where nobody says.
    """
    if provider == "openai":
        return _OPENAI_PLACES.get(urlsplit(api_base or "").hostname or "")
    name = "aws_region_name" if provider == "bedrock" else "vertex_location"
    place = credentials.get(name)
    return place.lower() if isinstance(place, str) else None


def _uplift(entry: Mapping[str, object], provider: str, place: str | None) -> Decimal | None:
    """
    The factor of the price in *place*.

    Source: LiteLLM 1.106.2, `llm_cost_calc/utils.py`, `get_regional_uplift_multiplier` and
    `get_vertex_regional_endpoint_uplift`; `llms/vertex_ai/vertex_llm_base.py`, `get_vertex_region`
    (Google's calls go to a region where none is named).
    """
    if provider == "openai" and place is not None:
        return usd(entry.get(f"regional_processing_uplift_multiplier_{place}"))
    if _family(provider) == "vertex_ai" and place != "global":
        return usd(entry.get("regional_endpoint_uplift_multiplier"))
    return None
