"""
Admission: everything that is decided before a provider is called.

The order is part of the contract (DESIGN 5.3): the money first, then the request rates, shortest
window first. A refusal by a rate gives the hold back, so a refused call holds no money, and has
used up nothing of the window that refused it or of a longer one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from relay_middleware.core import limit_refusals, refusals
from relay_middleware.core.attribution import Headers, attribute, named_customer, presented_secret
from relay_middleware.core.charging import (
    Demand,
    hold_amount,
    refuse_money,
    shrunk_cap_tokens,
    spend_remaining,
)
from relay_middleware.core.demands import demand_of
from relay_middleware.core.endpoints.endpoint import Call
from relay_middleware.core.holds import Account, Hold, NotReserved, Reserved
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.keys import ApiKey, KeyRight, hash_key
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, windows_of
from relay_middleware.core.records import CustomerCreated
from relay_middleware.core.refusals import RefusedError
from relay_middleware.core.tiers import (
    Customer,
    CustomerStatus,
    OnInsufficient,
    Tier,
    output_cap,
    spend_limits_of,
)
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.services import Services

HOLD_TTL_S = 900.0
"""Seconds until a sweep may expire a hold: longer than any call under the default time-outs."""

NEW_CUSTOMERS = "600/minute"
"""How many customers one key may bring into being."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """
    A request that may be sent to a provider; its hold is open.

    Attributes:
        model: Name that was asked for, or the tier's default.
        output_cap_tokens: To be written into the forwarded request, or None.
        is_cap_lowered: Whether it is less than was asked for, or than the tier's own.
        reserved_at: Instant that decides the periods.
        remaining_nano_usd: Smallest remainder of the limits, this hold taken off; None: no limit.
    """

    hold: Hold
    key: ApiKey
    customer: Customer
    tier: Tier
    model: str
    call: Call
    output_cap_tokens: int | None
    is_cap_lowered: bool
    is_bound_exact: bool
    reserved_at: datetime
    remaining_nano_usd: NanoUsd | None


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
            refusing = await services.rates.hit(f"key:{key.api_key_id}", (NEW_CUSTOMERS,))
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

    async def admit(
        self,
        request_id: str,
        key: ApiKey,
        customer_id: CustomerId,
        call: Call,
        *,
        body_bytes: int,
    ) -> Admitted:
        """
        Check *call* against everything that applies to its customer, and open its hold.

        Raises:
            RefusedError: It may not be sent. No hold is left.
            StoreUnavailableError: Limits cannot be checked.
        """
        customer, tier = await self.customer(key, customer_id)
        model = self._model(call, tier)
        limits = spend_limits_of(customer, tier)
        reachable = self._services.upstream.reachable(model)
        demand = demand_of(call, reachable, tier, is_limited=bool(limits), body_bytes=body_bytes)
        cap = None
        if call.choices > 0:
            cap = output_cap(tier, asked=call.asked_output_tokens, is_limited=bool(limits))
        reserved_at = self._services.clock.now()
        asked = Hold(
            hold_id=HoldId(request_id),
            customer_id=customer_id,
            amount_nano_usd=hold_amount(demand, cap),
            accounts=_accounts(limits, reserved_at),
            ttl_s=HOLD_TTL_S,
        )
        hold, held_cap, remaining = await self._reserve(asked, demand, cap, tier)
        await self._count(hold, tier)
        return Admitted(
            hold=hold,
            key=key,
            customer=customer,
            tier=tier,
            model=model,
            call=call,
            output_cap_tokens=held_cap,
            is_cap_lowered=held_cap != cap or _is_lowered(call.asked_output_tokens, cap),
            is_bound_exact=demand.is_exact,
            reserved_at=reserved_at,
            remaining_nano_usd=remaining,
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

    async def _reserve(
        self, asked: Hold, demand: Demand, cap_tokens: int | None, tier: Tier
    ) -> tuple[Hold, int | None, NanoUsd | None]:
        """
        Open the hold, for a lower output cap if the tier has it so and need be.

        Returns:
            The hold, the cap that it is for, and the smallest remainder of the limits.
        """
        result = await self._try_to_reserve(asked)
        if isinstance(result, Reserved):
            return asked, cap_tokens, spend_remaining(asked, result)
        if tier.on_insufficient is OnInsufficient.SHRINK and cap_tokens is not None:
            shrunk = shrunk_cap_tokens(
                demand,
                asked,
                result,
                cap_tokens=cap_tokens,
                least_tokens=tier.min_output_tokens,
            )
            if shrunk is not None:
                hold = replace(asked, amount_nano_usd=hold_amount(demand, shrunk))
                # Once: who loses this race to other requests is refused like everyone else.
                second = await self._try_to_reserve(hold)
                if isinstance(second, Reserved):
                    return hold, shrunk, spend_remaining(hold, second)
        raise RefusedError(refuse_money(demand, asked, result, cap_tokens=cap_tokens or 0))

    async def _try_to_reserve(self, hold: Hold) -> Reserved | NotReserved:
        try:
            return await self._services.spend.reserve(hold)
        except StoreUnavailableError:
            # It is unknown whether the hold was taken; giving back what is not there is harmless.
            self._services.background.spawn(give_back(self._services, hold))
            raise

    async def _count(self, hold: Hold, tier: Tier) -> None:
        if not tier.rate_limits:
            return
        is_decided = False
        try:
            refusing = await self._services.rates.hit(
                f"customer:{hold.customer_id}", tier.rate_limits
            )
            is_decided = True
        finally:
            if not is_decided:
                # Whatever ends the request here, nobody else knows of the hold.
                self._services.background.spawn(give_back(self._services, hold))
        if refusing is not None:
            await give_back(self._services, hold)
            raise RefusedError(
                limit_refusals.rate_limit_exceeded(refusing.limit, refusing.reset_after_s)
            )


async def give_back(services: Services, hold: Hold) -> None:
    """
    Release *hold*, of which no provider has heard; if the store is away, later.
    """
    try:
        await services.spend.release(hold, is_dispatched=False)
    except StoreUnavailableError:
        services.background.spawn(_give_back_later(services, hold))


async def _give_back_later(services: Services, hold: Hold) -> None:
    for pause_s in (0.1, 1.0, 10.0):
        await services.sleep(pause_s)
        try:
            await services.spend.release(hold, is_dispatched=False)
        except StoreUnavailableError:
            continue
        return


def _accounts(limits: Mapping[Period, NanoUsd], at: datetime) -> tuple[Account, ...]:
    return tuple(
        Account(window=window, limit_nano_usd=limits.get(window.period))
        for window in windows_of(at)
    )


def _is_lowered(asked: int | None, cap: int | None) -> bool:
    return asked is not None and cap is not None and cap < asked
