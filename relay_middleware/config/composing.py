"""
From the checked file to the values that the rest of Relay takes.
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from relay_middleware.config.references import ALL_MODELS
from relay_middleware.config.schema import (
    CredentialsSection,
    ModelSection,
    ParamsSection,
    PriceSection,
    RouterSection,
    Settings,
    TierSection,
    TimeoutsSection,
)
from relay_middleware.config.values import (
    Config,
    Customers,
    LitellmParams,
    ModelEntry,
    RatesUsd,
    RouterSettings,
)
from relay_middleware.core.deployments import Timeouts
from relay_middleware.core.tiers import Margin, Tier


def to_config(settings: Settings) -> Config:
    """Return *settings*, which agree with themselves, as a `Config`."""
    timeouts = _timeouts(Timeouts(), settings.timeouts)
    if settings.router_settings.timeout is not None:
        timeouts = replace(timeouts, non_stream_s=settings.router_settings.timeout)
    return Config(
        model_list=tuple(_entry(entry, settings, timeouts) for entry in settings.model_list),
        tiers={name: _tier(name, tier) for name, tier in settings.tiers.items()},
        router_settings=_router(settings.router_settings),
        customers=Customers(
            headers=settings.customers.headers,
            body_user=settings.customers.body_user,
            unknown=settings.customers.unknown,
            default_tier=settings.customers.default_tier,
            trust_header=settings.customers.trust_header,
        ),
        redis_url=settings.redis_url,
        redis_prefix=settings.redis_prefix,
        database_url=settings.database_url,
        state_dir=settings.state_dir,
        hold_ttl_s=settings.hold_ttl_s,
        drain_timeout_s=settings.drain_timeout_s,
        timeouts=timeouts,
        max_body_bytes=settings.max_body_bytes,
        cors_origins=settings.cors_origins,
    )


def _entry(entry: ModelSection, settings: Settings, timeouts: Timeouts) -> ModelEntry:
    params = entry.litellm_params
    return ModelEntry(
        model_name=entry.model_name,
        litellm_params=LitellmParams(
            model=params.model,
            api_key=params.api_key,
            api_base=params.api_base,
            weight=params.weight,
            order=params.order,
            credentials=_credentials(params),
            rates_usd={**_prices_of_model(settings, params.model), **_own_prices(params)},
        ),
        timeouts=_timeouts(timeouts, entry.timeouts),
        mode=entry.model_info.mode,
        base_model=entry.model_info.base_model,
    )


def _credentials(params: ParamsSection) -> Mapping[str, object]:
    names = CredentialsSection.model_fields.keys()
    given = {name: getattr(params, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _prices_of_model(settings: Settings, model: str) -> RatesUsd:
    given = _given_rates(settings.prices.get(model, PriceSection()), PriceSection.RATE_BY_KEY)
    # Exact: a price of the file has 20 digits at most.
    return {rate: per_million.scaleb(-6) for rate, per_million in given.items()}


def _own_prices(params: ParamsSection) -> RatesUsd:
    return _given_rates(params, ParamsSection.RATE_BY_KEY)


def _given_rates(
    section: PriceSection | ParamsSection, rate_by_key: Mapping[str, str]
) -> dict[str, Decimal]:
    prices: dict[str, Decimal | None] = {
        rate: getattr(section, key) for key, rate in rate_by_key.items()
    }
    return {rate: price for rate, price in prices.items() if price is not None}


def _router(router: RouterSection) -> RouterSettings:
    return RouterSettings(
        fallbacks={model: names for item in router.fallbacks for model, names in item.items()},
        allowed_fails=router.allowed_fails,
        cooldown_time=router.cooldown_time,
    )


def _tier(name: str, tier: TierSection) -> Tier:
    return Tier(
        name=name,
        models=None if ALL_MODELS in tier.models else frozenset(tier.models),
        default_model=tier.default_model,
        rate_limits=tier.rate_limits,
        token_limits=tier.token_limits,
        max_concurrency=tier.max_concurrency,
        spend_limits={limit.per: limit.cents for limit in tier.spend_limits},
        default_output_tokens=tier.default_output_tokens,
        max_output_tokens=tier.max_output_tokens,
        min_output_tokens=tier.min_output_tokens,
        on_insufficient=tier.on_insufficient,
        on_disconnect=tier.on_disconnect,
        on_outage=tier.on_outage,
        margin=Margin(
            percent=tier.margin.percent, per_request_nano_usd=tier.margin.per_request_cents
        ),
    )


def _timeouts(base: Timeouts, section: TimeoutsSection) -> Timeouts:
    return replace(base, **section.model_dump(exclude_none=True))
