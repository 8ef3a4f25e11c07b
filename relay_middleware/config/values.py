"""
What an operator configured: frozen, complete, checked. Field names are the file's keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path

from relay_middleware.core.deployments import Timeouts
from relay_middleware.core.tiers import Tier

RatesUsd = Mapping[str, Decimal]
"""US dollars per token, by field of `core.pricing.Rates` (`input_usd`, `cached_input_usd`, ...);
what is absent is as in the bundled table."""


class UnknownCustomer(Enum):
    """What happens when a request names a customer for the first time."""

    CREATE = "create"
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class LitellmParams:
    """
    Where one deployment is, in LiteLLM's words.

    Attributes:
        model: Provider and name there, `openai/gpt-4o-mini`.
        api_key: Credential; not printed.
        credentials: What else the provider wants of that kind, by LiteLLM's names, such as
            `aws_region_name`; not printed.
        weight: Share among the alternatives, or None.
        order: Preference among the alternatives, lowest first, or None.
        rates_usd: The entry's own, over those of the file's section `prices`.
    """

    model: str
    api_key: str | None = field(repr=False)
    api_base: str | None
    weight: float | None
    order: int | None
    rates_usd: RatesUsd
    credentials: Mapping[str, object] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """
    One entry of `model_list`.

    Attributes:
        model_name: What clients ask for; entries that share it are alternatives.
        timeouts: The entry's own, over the file's.
        mode: LiteLLM's word for what the model is for (`chat`, `embedding`); None: as the price
            table has it.
        base_model: Provider and name that it is priced under, where its name there says nothing
            (Azure's deployments); None: its own.
    """

    model_name: str
    litellm_params: LitellmParams
    timeouts: Timeouts
    mode: str | None = None
    base_model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """
    How deployments are chosen and left out.

    Attributes:
        fallbacks: By model, the models that are tried when all of its deployments failed.
        allowed_fails: Failures that leave a deployment in, each at most *cooldown_time* after the
            one before; one more leaves it out.
        cooldown_time: Seconds for which it is left out.
    """

    fallbacks: Mapping[str, tuple[str, ...]]
    allowed_fails: int
    cooldown_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Customers:
    """
    How a request names its customer.

    Attributes:
        headers: Names as written, at least one; which case they have makes no difference.
        body_user: Whether the body's `user` names the customer where no header does.
        default_tier: Of a customer that is created; None only with `REJECT`.
        trust_header: Whether a header names the customer of a host application's request without a
            key.
    """

    headers: tuple[str, ...]
    body_user: bool
    unknown: UnknownCustomer
    default_tier: str | None
    trust_header: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    The whole configuration.

    Attributes:
        model_list: At least one.
        tiers: By name, at least one.
        redis_url: None: the embedded store, one process. Not printed: it may hold a password.
        redis_prefix: What all keys in Redis begin with.
        database_url: `sqlite:///FILE` or `postgresql://...`. Not printed.
        state_dir: Holds the embedded store's lock and the write-ahead files.
        hold_ttl_s: Seconds until what a killed process has held expires.
        drain_timeout_s: Longest wait, when the process is told to end, for answers under way, and
            then for what is to be written.
        timeouts: Where a deployment has none of its own.
        max_body_bytes: Longest request body.
        cors_origins: Origins whose pages may call, or `*`; empty: none.
    """

    model_list: tuple[ModelEntry, ...]
    tiers: Mapping[str, Tier]
    router_settings: RouterSettings
    customers: Customers
    redis_url: str | None = field(repr=False)
    redis_prefix: str
    database_url: str = field(repr=False)
    state_dir: Path
    hold_ttl_s: int
    drain_timeout_s: int
    timeouts: Timeouts
    max_body_bytes: int
    cors_origins: tuple[str, ...]
