"""
Charging: what a request may cost at most, and what it did cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from relay_middleware.core import limit_refusals
from relay_middleware.core.bounds import CacheWrites, InputBound, counted_bound, upper_bound_usd
from relay_middleware.core.holds import (
    Account,
    Balance,
    Ended,
    Hold,
    NotReserved,
    Reserved,
    Shortage,
    TooManyTokens,
    shortage,
)
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.money import (
    EXACT,
    MAX_REQUEST_NANO_USD,
    NO_MONEY,
    NanoUsd,
    ceil_nano_usd,
    to_nano_usd,
)
from relay_middleware.core.pricing import ModelPrice, cost_usd
from relay_middleware.core.refusals import Refusal, RefusedError
from relay_middleware.core.tiers import Margin
from relay_middleware.core.usage import Usage
from relay_middleware.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    One deployment that a request may end up at, as its bound sees it.

    Attributes:
        deployment_id: Which, standing for those that are alike; None where nobody asks.
        price: None where it is not known: then nothing is held for it.
        is_output_capped: Whether the output cap bounds all of the output. Where the provider does
            not count reasoning against it, only the model's own limit does.
        is_upgradable: As for `Deployment`.
        cache_writes: What of the input may be written to the provider's cache.
        encoding: Vocabulary by which the input's tokens can be counted here, or None.
        is_countable: Whether the texts of request and answer tell what they cost; see `hang_ups`.
    """

    deployment_id: DeploymentId | None = None
    price: ModelPrice | None
    input_bound: InputBound
    is_output_capped: bool = True
    is_upgradable: bool = False
    cache_writes: CacheWrites = CacheWrites.ANY
    encoding: str | None = None
    is_countable: bool = True

    def output_tokens(self, cap_tokens: int | None) -> int:
        """
        Return the most output of one answer.

        Args:
            cap_tokens: Output cap; lowered to the model's own. None: the model's own.

        Returns:
            0 where nobody knows, which only those without a limit may ask for.
        """
        own = None if self.price is None else self.price.max_output_tokens
        if cap_tokens is None or not self.is_output_capped:
            return own or 0
        return cap_tokens if own is None else min(own, cap_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """
    What a request asks for, as far as its bound depends on it.

    Attributes:
        candidates: All deployments that it may end up at.
        choices: Number of answers asked for.
        service_tier: As asked.
        asks_for_reasoning: Whether the client asked the model to think first.
        framing_tokens: The most that a provider adds to the request's texts.
    """

    candidates: Sequence[Candidate]
    choices: int
    service_tier: str | None
    margin: Margin
    asks_for_reasoning: bool = False
    framing_tokens: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether the bound is proven, at every deployment."""
        return all(candidate.input_bound.is_exact for candidate in self.candidates)

    def at(self, deployment_id: DeploymentId) -> Candidate:
        """
        Return the candidate *deployment_id*: a deployment's `bound_id`.

        Raises:
            KeyError: There is none.
        """
        for candidate in self.candidates:
            if candidate.deployment_id == deployment_id:
                return candidate
        raise KeyError(deployment_id)

    @property
    def encodings(self) -> frozenset[str]:
        """Vocabularies by which the input's tokens can be counted, for some of the deployments."""
        return frozenset(each.encoding for each in self.candidates if each.encoding is not None)

    def with_input_tokens(self, counted_tokens: int) -> "Demand":
        """
        Return the same with the input bounded by what was counted, where that can be and is less.

        Args:
            counted_tokens: Of the request's texts, by the vocabulary that makes the most of them.
        """
        candidates = [
            each
            if each.encoding is None
            else replace(
                each,
                input_bound=counted_bound(each.input_bound, counted_tokens, self.framing_tokens),
            )
            for each in self.candidates
        ]
        return replace(self, candidates=candidates)

    @property
    def is_shrinkable(self) -> bool:
        """
        Whether a lower cap makes a shorter answer, and not none at all: a model that thinks first
        may spend a low cap on that alone.
        """
        return not self.asks_for_reasoning and all(
            candidate.is_output_capped
            and candidate.price is not None
            and not candidate.price.may_reason
            for candidate in self.candidates
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """
    What a request cost.

    Attributes:
        cost_usd: At the provider, exact.
        cost_nano_usd: The same, rounded half to even; at most `MAX_REQUEST_NANO_USD`.
        charge_nano_usd: What the customer pays, of at most as much; rounded once, from the exact
            cost.
    """

    cost_usd: Decimal
    cost_nano_usd: NanoUsd
    charge_nano_usd: NanoUsd


def hold_amount(demand: Demand, output_cap_tokens: int | None) -> NanoUsd:
    """
    Return the most that the customer can be charged, at the dearest deployment of *demand*.

    Args:
        output_cap_tokens: Of one choice; each deployment lowers it to its model's own. None: the
            model's own.
    """
    return max(
        [_charge_bound(demand, candidate, output_cap_tokens) for candidate in demand.candidates],
        default=NO_MONEY,
    )


def _charge_bound(demand: Demand, candidate: Candidate, output_cap_tokens: int | None) -> NanoUsd:
    if candidate.price is None:
        return NO_MONEY
    cost = _cost_bound_usd(candidate.price, demand, candidate, output_cap_tokens)
    return ceil_nano_usd(demand.margin.charge_usd(cost))


def _cost_bound_usd(
    price: ModelPrice, demand: Demand, candidate: Candidate, output_cap_tokens: int | None
) -> Decimal:
    return upper_bound_usd(
        price,
        input_tokens=candidate.input_bound.tokens,
        output_tokens=demand.choices * candidate.output_tokens(output_cap_tokens),
        service_tier=demand.service_tier,
        is_upgradable=candidate.is_upgradable,
        cache_writes=candidate.cache_writes,
    )


def most_used(
    demand: Demand, candidate: Candidate, output_cap_tokens: int | None
) -> tuple[Usage, Bill]:
    """
    Return the most that the request can have used at *candidate*, and what that costs at its
    dearest rates: not below `bill` of any usage within the bound, nor above `hold_amount`.

    Args:
        candidate: One of *demand*'s.
        output_cap_tokens: As for `hold_amount`.
    """
    usage = Usage(
        input_tokens=candidate.input_bound.tokens,
        output_tokens=demand.choices * candidate.output_tokens(output_cap_tokens),
    )
    if candidate.price is None:
        return usage, bill(None, usage, demand.margin)
    cost = _cost_bound_usd(candidate.price, demand, candidate, output_cap_tokens)
    return usage, _billed(cost, demand.margin)


def bound_tokens(demand: Demand, output_cap_tokens: int | None) -> int:
    """
    Return the most tokens, input and output together, that the request can take at any deployment
    of *demand*: for token limits.

    Args:
        output_cap_tokens: As for `hold_amount`.
    """
    return max(
        [
            candidate.input_bound.tokens
            + demand.choices * candidate.output_tokens(output_cap_tokens)
            for candidate in demand.candidates
        ],
        default=0,
    )


def resized(hold: Hold, demand: Demand, output_cap_tokens: int | None) -> Hold:
    """
    Return *hold* for the most that *demand* can take now.

    Args:
        output_cap_tokens: As for `hold_amount`.
    """
    return replace(
        hold,
        amount_nano_usd=hold_amount(demand, output_cap_tokens),
        tokens=bound_tokens(demand, output_cap_tokens),
        facts=replace(hold.facts, is_bound_exact=demand.is_exact),
    )


def largest_cap_tokens(demand: Demand, available: NanoUsd, *, below: int) -> int:
    """
    Return the largest output cap under *below* whose hold fits *available*; 0 where none does.
    """
    return _largest(lambda cap: hold_amount(demand, cap) <= available, below=below)


def largest_cap_within_tokens(demand: Demand, tokens: int, *, below: int) -> int:
    """
    Return the largest output cap under *below* whose tokens, input included, are at most *tokens*;
    0 where there is none.
    """
    return _largest(lambda cap: bound_tokens(demand, cap) <= tokens, below=below)


def _largest(fits: Callable[[int], bool], *, below: int) -> int:
    """
    The largest number from 1 that *fits*, under *below*; 0 where none does.

    What does not fit never fits larger, so halving finds it in some 31 steps.
    """
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def bill(price: ModelPrice | None, usage: Usage, margin: Margin) -> Bill:
    """
    Return what *usage* costs at *price*, and what is charged for it.

    Without a price the cost is unknown and nothing is charged but the margin's fixed part.
    """
    return _billed(Decimal(0) if price is None else cost_usd(price, usage), margin)


def _billed(exact_usd: Decimal, margin: Margin) -> Bill:
    return Bill(
        cost_usd=EXACT.plus(exact_usd),
        # A settle is never refused: what is beyond reason is charged as far as it can be counted.
        cost_nano_usd=min(to_nano_usd(exact_usd), MAX_REQUEST_NANO_USD),
        charge_nano_usd=min(to_nano_usd(margin.charge_usd(exact_usd)), MAX_REQUEST_NANO_USD),
    )


def require_countable(demand: Demand, amount: NanoUsd, cap_tokens: int | None) -> None:
    """
    Check that *amount*, the hold of *demand* under *cap_tokens*, can be added up.

    Raises:
        RefusedError: 400, it is more than one request may cost.
    """
    if amount > MAX_REQUEST_NANO_USD:
        largest = largest_cap_tokens(demand, MAX_REQUEST_NANO_USD, below=cap_tokens or 0)
        raise RefusedError(limit_refusals.request_too_costly(amount, largest_cap_tokens=largest))


def refuse_money(demand: Demand, hold: Hold, refused: NotReserved, *, cap_tokens: int) -> Refusal:
    """
    Return what a client is told whose *hold* did not fit.

    Args:
        hold: The one that was refused, or the same for less.
        cap_tokens: The output cap that *hold* was made for.
    """
    asked = hold.amount_nano_usd
    account, balance = _tightest(hold, refused)
    ceiling = NanoUsd((account.limit_nano_usd or NO_MONEY) + balance.credit_nano_usd)
    if asked > ceiling > balance.posted_nano_usd:
        largest = largest_cap_tokens(demand, ceiling, below=cap_tokens)
        return limit_refusals.request_exceeds_limit(
            account, balance, asked, largest_cap_tokens=largest
        )
    if shortage(balance, account.limit_nano_usd, asked) is Shortage.EXHAUSTED:
        return limit_refusals.spend_limit_exceeded(account, balance, asked)
    return limit_refusals.in_flight_budget_exhausted(account, balance, asked)


def _tightest(hold: Hold, refused: NotReserved) -> tuple[Account, Balance]:
    """
    The first account that *hold* does not fit. It may be smaller than the one that was refused, and
    fit by now: then the one that refused.
    """
    pairs = list(zip(hold.accounts, refused.balances, strict=True))
    for account, balance in pairs:
        if shortage(balance, account.limit_nano_usd, hold.amount_nano_usd) is not None:
            return account, balance
    return refused.account, refused.balances[hold.accounts.index(refused.account)]


def spend_remaining(
    hold: Hold, result: Reserved | Ended | NotReserved | TooManyTokens
) -> NanoUsd | None:
    """
    Return the smallest remainder of the limits that apply to *hold*; None where none does.
    """
    return min(
        [
            balance.remaining_nano_usd(account.limit_nano_usd)
            for account, balance in zip(hold.accounts, result.balances, strict=True)
            if account.limit_nano_usd is not None
        ],
        default=None,
    )
