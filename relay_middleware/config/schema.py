"""
The file's shape: which keys there are, and which values each takes.

Checks one value at a time; what two places must agree on is in `references.py`. Alone knows
pydantic-settings. The environment is merged in before (`loading.py`).
"""

import re
from collections.abc import Sized
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import override

from relay_middleware.config.document import ENVIRONMENT
from relay_middleware.config.notation import (
    MAX_NUMBER,
    one_per_window,
    rate_limit,
    shortest_window_first,
    token_limit,
)
from relay_middleware.config.values import UnknownCustomer
from relay_middleware.core.money import MAX_NANO_USD, NanoUsd, cents_to_nano_usd, format_cents
from relay_middleware.core.periods import Period
from relay_middleware.core.rates import TokenLimit
from relay_middleware.core.tiers import (
    MIN_OUTPUT_TOKENS,
    OnDisconnect,
    OnInsufficient,
    OnOutage,
)

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A field name. Source: RFC 9110, 5.1 and 5.6.2."""

_KEY_HEADERS = {"authorization", "x-modelrelay-api-key", "cookie"}
"""Whose values are secrets: as a customer's id they would be stored and printed."""

_ORIGIN = re.compile(r"\*|https?://[^/\s?#]+")
"""Source: WHATWG Fetch, the header `Origin`: scheme, host and port, without a final slash."""


MODES = ("chat", "embedding")
"""What a model may be for, in LiteLLM's words."""


def _no_boolean(value: object) -> object:
    # Python counts True as 1.
    if isinstance(value, bool):
        raise ValueError("must be a number, not a boolean")  # noqa: TRY004 - pydantic's contract
    return value


def _to_decimal(value: object) -> Decimal:
    try:
        amount = Decimal(str(_no_boolean(value)))
    except InvalidOperation:
        raise ValueError("must be a number") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("must be a finite number, 0 or more")
    return amount


def _to_nano_usd(value: object) -> NanoUsd:
    cents = _to_decimal(value)
    try:
        amount = cents_to_nano_usd(cents)
    except ValueError:
        raise ValueError("is finer than a nano-dollar; give it at most 7 decimals") from None
    if amount > MAX_NANO_USD:
        most = format_cents(MAX_NANO_USD)
        raise ValueError(f"is more than the largest amount that counts exactly, {most} cents")
    return amount


def _some_at_once(most: int) -> int:
    if most < 1:
        raise ValueError("admits no request at all; give it 1 or more, or block the customer")
    return most


def _redis_url(url: str) -> str | None:
    if url == "embedded":
        return None
    if not url.startswith((ENVIRONMENT, "redis://", "rediss://", "unix://")):
        raise ValueError(
            "must begin with redis://, rediss:// or unix://; null or 'embedded' for the embedded "
            "store"
        )
    return url


def _database_url(url: str) -> str:
    if not url.startswith((ENVIRONMENT, "sqlite:///", "postgresql://")):
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if url.partition("?")[0] in {"sqlite:///", "sqlite:///:memory:"}:
        # It would forget what customers have spent.
        raise ValueError("must name a file, such as sqlite:///relay.db: memory keeps nothing")
    return url


def _http_url(url: str) -> str:
    if not url.startswith((ENVIRONMENT, "http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("is no header name")
    if name.lower() in _KEY_HEADERS:
        raise ValueError("carries a secret and cannot name a customer")
    return name


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError("is no origin; write it as https://app.example.com, without a path, or *")
    return text


def _strategy(name: str) -> str:
    if name != "simple-shuffle":
        raise ValueError(
            "is not offered: it would feed on callbacks that Relay's calls do not fire, and run "
            "blind; use simple-shuffle, with weight and order"
        )
    return name


def _one_name(name: str) -> str:
    if "*" in name:
        raise ValueError(
            "is a wildcard; Relay prices what it routes, so make each model an entry of its own"
        )
    return name


def _model(name: str) -> str:
    if name.endswith("/"):
        raise ValueError("names no model; write provider and model, such as openai/gpt-4o-mini")
    return _one_name(name)


def _mode(mode: str) -> str:
    if mode not in MODES:
        raise ValueError(f"is not served; Relay serves {' and '.join(MODES)}: remove the entry")
    return mode


def _not_empty(items: Sized) -> Sized:
    # After the items: pydantic's own bound counts only those that are right.
    if not items:
        raise ValueError("is empty; there must be one at least")
    return items


Name = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, BeforeValidator(_no_boolean)]
Positive = Annotated[Whole, Field(ge=1, le=MAX_NUMBER)]
Above0 = Annotated[float, BeforeValidator(_no_boolean), Field(gt=0, allow_inf_nan=False)]
# `EXACT` of core.money has room for prices of 20 digits.
Usd = Annotated[Decimal, BeforeValidator(_to_decimal), Field(max_digits=20)]
Money = Annotated[NanoUsd, BeforeValidator(_to_nano_usd)]


class Section(BaseModel):
    """A mapping of the file; a key that it does not name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeoutsSection(Section):
    """`timeouts`, of the file or of one deployment; None: as without."""

    connect_s: Above0 | None = None
    first_event_s: Above0 | None = None
    non_stream_s: Above0 | None = None
    between_chunks_s: Above0 | None = None


class CredentialsSection(Section):
    """
    What providers want beside a key, by LiteLLM's names: `CredentialLiteLLMParams` without what
    serves files and batches only.
    """

    api_version: Name | None = None
    azure_ad_token: Name | None = None
    tenant_id: Name | None = None
    client_id: Name | None = None
    client_secret: Name | None = None
    azure_scope: Name | None = None
    azure_username: Name | None = None
    azure_password: Name | None = None
    vertex_project: Name | None = None
    vertex_location: Name | None = None
    vertex_credentials: Name | dict[str, object] | None = None
    region_name: Name | None = None
    aws_access_key_id: Name | None = None
    aws_secret_access_key: Name | None = None
    aws_session_token: Name | None = None
    aws_region_name: Name | None = None
    aws_session_name: Name | None = None
    aws_profile_name: Name | None = None
    aws_role_name: Name | None = None
    aws_web_identity_token: Name | None = None
    aws_sts_endpoint: Name | None = None
    aws_external_id: Name | None = None
    aws_bedrock_runtime_endpoint: Name | None = None
    aws_bedrock_project_id: Name | None = None
    watsonx_region_name: Name | None = None


class ParamsSection(CredentialsSection):
    """`litellm_params`; prices in US dollars per token."""

    RATE_BY_KEY: ClassVar = {
        "input_cost_per_token": "input_usd",
        "output_cost_per_token": "output_usd",
        "cache_read_input_token_cost": "cached_input_usd",
        "cache_creation_input_token_cost": "cache_write_input_usd",
        "cache_creation_input_token_cost_above_1hr": "cache_write_1h_input_usd",
        "input_cost_per_audio_token": "audio_input_usd",
        "output_cost_per_reasoning_token": "reasoning_usd",
        "output_cost_per_audio_token": "audio_output_usd",
    }

    model: Annotated[Name, AfterValidator(_model)]
    api_key: Name | None = None
    api_base: Annotated[str, AfterValidator(_http_url)] | None = None
    weight: Above0 | None = None
    order: Annotated[Whole, Field(ge=0)] | None = None
    input_cost_per_token: Usd | None = None
    output_cost_per_token: Usd | None = None
    cache_read_input_token_cost: Usd | None = None
    cache_creation_input_token_cost: Usd | None = None
    cache_creation_input_token_cost_above_1hr: Usd | None = None
    input_cost_per_audio_token: Usd | None = None
    output_cost_per_reasoning_token: Usd | None = None
    output_cost_per_audio_token: Usd | None = None


class ModelInfoSection(Section):
    """`model_info`, of which Relay reads what the price table does not know."""

    mode: Annotated[str, AfterValidator(_mode)] | None = None
    base_model: Name | None = None


class ModelSection(Section):
    """An item of `model_list`."""

    model_name: Annotated[Name, AfterValidator(_one_name)]
    litellm_params: ParamsSection
    model_info: ModelInfoSection = ModelInfoSection()
    timeouts: TimeoutsSection = TimeoutsSection()


class RouterSection(Section):
    """`router_settings`, LiteLLM's words."""

    fallbacks: tuple[dict[str, tuple[Name, ...]], ...] = ()
    # Not LiteLLM's 3, which never leaves out the only deployment of a model (DESIGN 8, Routing).
    allowed_fails: Annotated[Whole, Field(ge=0)] = 1
    cooldown_time: Above0 = 5.0
    timeout: Above0 | None = None
    routing_strategy: Annotated[str, AfterValidator(_strategy)] = "simple-shuffle"


class SpendLimitSection(Section):
    """An item of `spend_limits`."""

    cents: Money
    per: Period


class MarginSection(Section):
    """`margin` of a tier."""

    percent: Usd = Decimal(0)
    per_request_cents: Money = NanoUsd(0)


class TierSection(Section):
    """A value of `tiers`."""

    models: Annotated[tuple[Name, ...], AfterValidator(_not_empty)]
    default_model: Name | None = None
    rate_limits: Annotated[
        tuple[Annotated[str, AfterValidator(rate_limit)], ...],
        AfterValidator(shortest_window_first),
    ] = ()
    token_limits: Annotated[
        tuple[Annotated[TokenLimit, PlainValidator(token_limit)], ...],
        AfterValidator(one_per_window),
    ] = ()
    max_concurrency: (
        Annotated[Whole, Field(le=MAX_NUMBER), AfterValidator(_some_at_once)] | None
    ) = None
    spend_limits: tuple[SpendLimitSection, ...] = ()
    default_output_tokens: Positive | None = None
    max_output_tokens: Positive | None = None
    min_output_tokens: Positive = MIN_OUTPUT_TOKENS
    on_insufficient: OnInsufficient = OnInsufficient.REJECT
    on_disconnect: OnDisconnect = OnDisconnect.DRAIN
    on_outage: OnOutage | None = None
    margin: MarginSection = MarginSection()


class CustomersSection(Section):
    """`customers`."""

    headers: Annotated[
        tuple[Annotated[str, AfterValidator(_header_name)], ...], AfterValidator(_not_empty)
    ] = ("X-ModelRelay-Customer-Id", "X-Customer-Id")
    body_user: bool = False
    unknown: UnknownCustomer = UnknownCustomer.CREATE
    default_tier: Name | None = None
    trust_header: bool = False


class PriceSection(Section):
    """A value of `prices`; US dollars per million tokens."""

    RATE_BY_KEY: ClassVar = {
        "usd_per_million_input_tokens": "input_usd",
        "usd_per_million_output_tokens": "output_usd",
        "usd_per_million_cached_input_tokens": "cached_input_usd",
        "usd_per_million_cache_write_input_tokens": "cache_write_input_usd",
        "usd_per_million_cache_write_1h_input_tokens": "cache_write_1h_input_usd",
        "usd_per_million_audio_input_tokens": "audio_input_usd",
        "usd_per_million_reasoning_tokens": "reasoning_usd",
        "usd_per_million_audio_output_tokens": "audio_output_usd",
    }

    usd_per_million_input_tokens: Usd | None = None
    usd_per_million_output_tokens: Usd | None = None
    usd_per_million_cached_input_tokens: Usd | None = None
    usd_per_million_cache_write_input_tokens: Usd | None = None
    usd_per_million_cache_write_1h_input_tokens: Usd | None = None
    usd_per_million_audio_input_tokens: Usd | None = None
    usd_per_million_reasoning_tokens: Usd | None = None
    usd_per_million_audio_output_tokens: Usd | None = None


class Settings(BaseSettings):
    """The file as a whole."""

    model_config = SettingsConfigDict(
        env_prefix="RELAY_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    model_list: Annotated[tuple[ModelSection, ...], AfterValidator(_not_empty)]
    tiers: Annotated[dict[str, TierSection], AfterValidator(_not_empty)]
    router_settings: RouterSection = RouterSection()
    customers: CustomersSection = CustomersSection()
    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = None
    redis_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "relay"
    database_url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///relay.db"
    state_dir: Path = Path(".relay")
    hold_ttl_s: Annotated[Whole, Field(ge=5, le=3600)] = 60
    drain_timeout_s: Positive = 60
    timeouts: TimeoutsSection = TimeoutsSection()
    prices: dict[str, PriceSection] = Field(default_factory=dict)
    max_body_bytes: Positive = 32 * 1024 * 1024
    cors_origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment is part of the argument already: mistakes are told apart by their origin.
        return (init_settings,)
