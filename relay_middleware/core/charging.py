"""
Charging: what a request may cost at most, and what it did cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from relay_middleware.core import limit_refusals
from relay_middleware.core.bounds import InputBound, upper_bound_usd
from relay_middleware.core.holds import Balance, Ended, Hold, NotReserved, Reserved, Shortage
from relay_middleware.core.money import EXACT, NO_MONEY, NanoUsd, ceil_nano_usd, to_nano_usd
from relay_middleware.core.pricing import ModelPrice, cost_usd
from relay_middleware.core.refusals import Refusal
from relay_middleware.core.tiers import Margin
from relay_middleware.core.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    One deployment that a request may end up at, as its bound sees it.

    Attributes:
        is_output_capped: Whether the output cap bounds all of the output. Where the provider does
            not count reasoning against it, only the model's own limit does.
    """

    price: ModelPrice
    input_bound: InputBound
    is_output_capped: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """
    What a request asks for, as far as its bound depends on it.

    Attributes:
        candidates: All priced deployments that it may end up at.
        choices: Number of answers asked for.
        service_tier: As asked.
        asks_for_reasoning: Whether the client asked the model to think first.
    """

    candidates: Sequence[Candidate]
    choices: int
    service_tier: str | None
    margin: Margin
    asks_for_reasoning: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether the bound is proven, at every deployment."""
        return all(candidate.input_bound.is_exact for candidate in self.candidates)

    @property
    def is_shrinkable(self) -> bool:
        """
        Whether a lower cap makes a shorter answer, and not none at all: a model that thinks first
        may spend a low cap on that alone.
        """
        return not self.asks_for_reasoning and all(
            candidate.is_output_capped and not candidate.price.may_reason
            for candidate in self.candidates
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """
    What a request cost.

    Attributes:
        cost_usd: At the provider, exact.
        cost_nano_usd: The same, rounded half to even.
        charge_nano_usd: What the customer pays; rounded once, from the exact cost.
    """

    cost_usd: Decimal
    cost_nano_usd: NanoUsd
    charge_nano_usd: NanoUsd


NOTHING = Bill(cost_usd=Decimal(0), cost_nano_usd=NO_MONEY, charge_nano_usd=NO_MONEY)
"""The bill of a request that no provider answered."""


def hold_amount(demand: Demand, output_cap_tokens: int | None) -> NanoUsd:
    """
    Return the most that the customer can be charged, at the dearest deployment of *demand*.

    Args:
        output_cap_tokens: Of one choice; each deployment lowers it to its model's own. None: the
            model's own.
    """
    return max(
        (_charge_bound(demand, candidate, output_cap_tokens) for candidate in demand.candidates),
        default=NO_MONEY,
    )


def _charge_bound(demand: Demand, candidate: Candidate, output_cap_tokens: int | None) -> NanoUsd:
    caps = [candidate.price.max_output_tokens]
    if candidate.is_output_capped:
        caps.append(output_cap_tokens)
    cost = upper_bound_usd(
        candidate.price,
        input_tokens=candidate.input_bound.tokens,
        output_tokens=demand.choices * min((cap for cap in caps if cap is not None), default=0),
        service_tier=demand.service_tier,
    )
    return ceil_nano_usd(demand.margin.charge_usd(cost))


def largest_cap_tokens(demand: Demand, available: NanoUsd, *, below: int) -> int:
    """
    Return the largest output cap under *below* whose hold fits *available*; 0 where none does.

    `hold_amount` never falls as the cap rises, so halving finds it in some 31 steps.
    """
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        if hold_amount(demand, middle) <= available:
            low = middle
        else:
            high = middle
    return low


def shrunk_cap_tokens(
    demand: Demand, hold: Hold, refused: NotReserved, *, cap_tokens: int, least_tokens: int
) -> int | None:
    """
    Return the largest output cap whose hold fits what is free in all accounts now.

    Args:
        cap_tokens: The output cap that *hold* was made for; the result is below it.
        least_tokens: The shortest answer that is worth its price.

    Returns:
        None where no cap of *least_tokens* or more fits, or a lower one would not shorten the
        answer.
    """
    if not demand.is_shrinkable:
        return None
    available = min(
        _remaining(balance, account.limit_nano_usd)
        for account, balance in zip(hold.accounts, refused.balances, strict=True)
        if account.limit_nano_usd is not None
    )
    largest = largest_cap_tokens(demand, available, below=cap_tokens)
    return largest if largest >= least_tokens else None


def bill(price: ModelPrice | None, usage: Usage, margin: Margin) -> Bill:
    """
    Return what *usage* costs at *price*, and what is charged for it.

    Without a price the cost is unknown and nothing is charged but the margin's fixed part.
    """
    exact = Decimal(0) if price is None else cost_usd(price, usage)
    charge = margin.charge_usd(exact)
    return Bill(
        cost_usd=EXACT.plus(exact),
        cost_nano_usd=to_nano_usd(exact),
        charge_nano_usd=to_nano_usd(charge),
    )


def refuse_money(demand: Demand, hold: Hold, refused: NotReserved, *, cap_tokens: int) -> Refusal:
    """
    Return what a client is told whose *hold* did not fit.

    Args:
        cap_tokens: The output cap that *hold* was made for.
    """
    account = refused.account
    balance = refused.balances[hold.accounts.index(account)]
    asked = hold.amount_nano_usd
    ceiling = NanoUsd((account.limit_nano_usd or NO_MONEY) + balance.credit_nano_usd)
    if asked > ceiling > balance.posted_nano_usd:
        largest = largest_cap_tokens(demand, ceiling, below=cap_tokens)
        return limit_refusals.request_exceeds_limit(
            account, balance, asked, largest_cap_tokens=largest
        )
    if refused.shortage is Shortage.EXHAUSTED:
        return limit_refusals.spend_limit_exceeded(account, balance, asked)
    return limit_refusals.in_flight_budget_exhausted(account, balance, asked)


def spend_remaining(hold: Hold, result: Reserved | Ended) -> NanoUsd | None:
    """
    Return the smallest remainder of the limits that apply to *hold*; None where none does.
    """
    return min(
        (
            _remaining(balance, account.limit_nano_usd)
            for account, balance in zip(hold.accounts, result.balances, strict=True)
            if account.limit_nano_usd is not None
        ),
        default=None,
    )


def _remaining(balance: Balance, limit: NanoUsd) -> NanoUsd:
    return balance.remaining_nano_usd(limit)
