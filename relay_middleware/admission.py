"""
Admission: everything that is decided before a provider is called.

The order is part of the contract (DESIGN 5.3): the money first, then tokens and a place, then the
request rates, shortest window first. All of it is one step of the store, in one round trip: a
refused call never holds money that another one could have had, and has used up nothing of any
window.
"""

from datetime import datetime
from functools import partial

from relay_middleware.core import limit_refusals, refusals
from relay_middleware.core.attribution import Headers, attribute, named_customer, presented_secret
from relay_middleware.core.charging import (
    Demand,
    bound_tokens,
    hold_amount,
    require_countable,
    spend_remaining,
)
from relay_middleware.core.demands import demand_of
from relay_middleware.core.endpoints.endpoint import Call, Endpoint
from relay_middleware.core.holds import Hold, HoldFacts, Reserved
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.keys import ApiKey, KeyRight, hash_key
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.rates import RateStatus, TokenStatus
from relay_middleware.core.records import CustomerCreated
from relay_middleware.core.refusals import RefusedError
from relay_middleware.core.standings import Standing
from relay_middleware.core.tiers import (
    Customer,
    CustomerStatus,
    OnOutage,
    Tier,
    outage_policy,
    output_cap,
)
from relay_middleware.core.values import dataclass
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.reserving import Reserving, Wanted
from relay_middleware.services import Services

NEW_CUSTOMERS = "600/minute"
"""How many customers one key may bring into being."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    A request that is to be admitted.

    Attributes:
        body_bytes: Length of its body.
    """

    request_id: str
    key: ApiKey
    customer_id: CustomerId
    call: Call
    endpoint: Endpoint
    body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """
    A request that may be sent to a provider; its hold is open.

    Attributes:
        model: Name that was asked for, or the tier's default.
        output_cap_tokens: To be written into the forwarded request, or None.
        is_cap_lowered: Whether it is less than was asked for, or than the tier's own.
        demand: What the hold was made for.
        reserved: The store's answer; None: it is away, and the tier is served all the same.
    """

    hold: Hold
    key: ApiKey
    tier: Tier
    model: str
    call: Call
    output_cap_tokens: int | None
    is_cap_lowered: bool
    demand: Demand
    reserved: Reserved | None

    @property
    def remaining_nano_usd(self) -> NanoUsd | None:
        """
        Smallest remainder of the limits, this hold taken off; None: no limit, or the store is away.
        """
        return None if self.reserved is None else spend_remaining(self.hold, self.reserved)

    @property
    def tokens(self) -> tuple[TokenStatus, ...]:
        """What is left of the token limits; nothing where the store is away."""
        return () if self.reserved is None else self.reserved.tokens

    @property
    def rates(self) -> tuple[RateStatus, ...]:
        """What is left of the request rates; nothing where the store is away."""
        return () if self.reserved is None else self.reserved.rates


class Admission:
    """Decides whether a request may cost money, and sets it aside."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def authenticate(self, headers: Headers) -> ApiKey:
        """
        Return the key in force that *headers* present.

        Raises:
            RefusedError: 401, there is none; 403, it is for management.
        """
        return await self.key_of(presented_secret(headers))

    async def key_of(self, secret: str) -> ApiKey:
        """
        Return the key in force whose secret this is.

        Raises:
            RefusedError: 401, there is none; 403, it is for management.
        """
        key = await self._services.directory.api_key(hash_key(secret))
        if key is None:
            raise RefusedError(refusals.invalid_api_key(is_missing=False))
        if key.right is KeyRight.MANAGEMENT:
            raise RefusedError(refusals.customer_forbidden(None))
        return key

    def customer_id(self, key: ApiKey, headers: Headers, body_user: object) -> CustomerId:
        """
        Decide which customer the request is for.

        Raises:
            RefusedError: As `attribution.attribute`.
        """
        rules = self._services.customer_rules
        return attribute(
            key,
            in_header=named_customer(headers, rules.headers),
            body_user=body_user if rules.body_user else None,
            header_name=rules.headers[0],
        )

    async def customer(self, key: ApiKey, customer_id: CustomerId) -> tuple[Customer, Tier]:
        """
        Return the customer, created if the configuration says so, and its tier.

        Raises:
            RefusedError: 403, unknown or blocked; 429, too many new ones; 500, of no known tier.
        """
        directory = self._services.directory
        # Asked twice: while it was read, another request may have created it.
        customer = await directory.customer(customer_id) or directory.known(customer_id)
        if customer is None:
            customer = await self._create(key, customer_id)
        if customer.status is CustomerStatus.BLOCKED:
            raise RefusedError(refusals.customer_blocked(customer_id))
        tier = self._services.tiers.get(customer.tier)
        if tier is None:
            raise RefusedError(refusals.tier_not_configured(customer.tier))
        return customer, tier

    async def _create(self, key: ApiKey, customer_id: CustomerId) -> Customer:
        services = self._services
        rules = services.customer_rules
        # A key bound to a customer makes that customer known, whatever the rule for names is.
        is_wanted = rules.creates_unknown or key.customer_id is not None
        if rules.default_tier is None or not is_wanted:
            raise RefusedError(refusals.unknown_customer(customer_id))
        customer = Customer(customer_id=customer_id, tier=rules.default_tier, is_new=True)
        # Before the first await: of many first requests at once one creates, the others find it.
        services.directory.remember(customer)
        is_counted = False
        try:
            refusing = await self._count_new(key, rules.default_tier)
            is_counted = refusing is None
        finally:
            if not is_counted:
                services.directory.forget(customer_id)
        if refusing is not None:
            raise RefusedError(limit_refusals.too_many_new_customers(refusing.reset_after_s))
        services.journal.put(
            CustomerCreated(
                customer_id=customer_id, tier=customer.tier, created_at=services.clock.now()
            )
        )
        return customer

    async def _count_new(self, key: ApiKey, tier_name: str) -> RateStatus | None:
        """Count a new customer of the tier; return what refuses it."""
        try:
            count = await self._services.rates.hit(f"key:{key.api_key_id}", (NEW_CUSTOMERS,))
        except StoreUnavailableError:
            tier = self._services.tiers[tier_name]
            if outage_policy(tier, has_spend_limit=bool(tier.spend_limits)) is OnOutage.OPEN:
                return None
            raise
        return count.refusing

    async def admit(self, asked: Asked) -> Admitted:
        """
        Check a request against everything that applies to its customer, and open its hold.

        Raises:
            RefusedError: It may not be sent. No hold is left.
            StoreUnavailableError: Limits cannot be checked.
        """
        customer, tier = await self.customer(asked.key, asked.customer_id)
        model = self._model(asked.call, tier)
        now = self._services.clock.now()
        standing = self._services.standings.of(customer, tier, now)
        wanted = self._wanted(asked, standing, model, now)
        reserving = Reserving(self._services, tier, standing.on_outage)
        found, reserved = await reserving.reserve(wanted)
        self._services.open_holds.add(found.hold)
        cap = found.cap_tokens
        is_cut = cap != wanted.cap_tokens or _is_lowered(asked.call.asked_output_tokens, cap)
        return Admitted(
            hold=found.hold,
            key=asked.key,
            tier=tier,
            model=model,
            call=asked.call,
            output_cap_tokens=cap,
            is_cap_lowered=is_cut,
            demand=found.demand,
            reserved=reserved,
        )

    def _wanted(self, asked: Asked, standing: Standing, model: str, now: datetime) -> Wanted:
        call, tier = asked.call, standing.tier
        is_bounded = standing.is_limited or bool(tier.token_limits)
        demand = demand_of(
            call,
            self._services.upstream.reachable(model),
            tier,
            is_limited=standing.is_limited,
            body_bytes=asked.body_bytes,
        )
        cap = None
        if call.choices > 0:
            cap = output_cap(tier, asked=call.asked_output_tokens, is_limited=is_bounded)
        amount = hold_amount(demand, cap)
        require_countable(demand, amount, cap)
        hold = Hold(
            hold_id=HoldId(asked.request_id),
            customer_id=asked.customer_id,
            amount_nano_usd=amount,
            accounts=standing.accounts,
            ttl_s=self._services.hold_ttl_s,
            facts=_facts(asked, tier, model, now, is_exact=demand.is_exact),
            tokens=bound_tokens(demand, cap) if tier.token_limits else 0,
            token_limits=tier.token_limits,
            max_concurrency=tier.max_concurrency,
        )
        return Wanted(
            hold=hold,
            demand=demand,
            cap_tokens=cap,
            body_bytes=asked.body_bytes,
            input_text=partial(asked.endpoint.input_text, call.body),
        )

    def _model(self, call: Call, tier: Tier) -> str:
        model = call.model or tier.default_model
        if model is None:
            raise RefusedError(
                refusals.invalid_request(
                    "model is missing, and the customer's tier has no default.",
                    param="model",
                    code="missing_required_parameter",
                )
            )
        if model not in self._services.models:
            raise RefusedError(refusals.model_not_found(model))
        if not tier.allows(model):
            raise RefusedError(refusals.model_not_allowed(model, tier.name))
        return model


def _facts(
    asked: Asked, tier: Tier, model: str, reserved_at: datetime, *, is_exact: bool
) -> HoldFacts:
    return HoldFacts(
        api_key_id=asked.key.api_key_id,
        tier=tier.name,
        endpoint=asked.endpoint.path,
        model=model,
        is_stream=asked.call.is_stream,
        is_bound_exact=is_exact,
        reserved_at=reserved_at,
    )


def _is_lowered(asked: int | None, cap: int | None) -> bool:
    return asked is not None and cap is not None and cap < asked
