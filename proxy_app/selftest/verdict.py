"""
The verdict: what was found after a run, what must hold of it, and how it is told.

Pure values.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy_app.selftest.crowd import Outcome, Tally
from proxy_app.selftest.plan import PRICE, Plan
from proxy_app.tables import Row
from relay_middleware.core.money import NanoUsd, format_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """
    What one customer has spent, as somebody counts it.

    Attributes:
        settled_nano_usd: What its requests were charged.
        expired_nano_usd: What was held for requests that nobody knows the end of.
        posted_nano_usd_by_period: Both together, in each running period, by its name.
    """

    settled_nano_usd: NanoUsd
    expired_nano_usd: NanoUsd
    posted_nano_usd_by_period: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """
    What was found when all was over.

    Attributes:
        ledger: As SQL has it.
        counters: As Redis has it.
        held_nano_usd: Still set aside.
        journal_entries: Of which the ledger has not heard.
        ledger_rows: Requests in the ledger, however they ended.
        provider_calls: Calls that the providers have received, as they count them.
        killed: Processes that were killed.
        lost: Requests that they were about.
        paused: Processes that were stopped for some seconds.
    """

    plan: Plan
    limit_nano_usd: NanoUsd
    ledger: Counted
    counters: Counted
    held_nano_usd: NanoUsd
    journal_entries: int
    ledger_rows: int
    provider_calls: int
    killed: int
    lost: int
    paused: int
    tally: Tally
    seconds: float

    @property
    def spent_nano_usd(self) -> NanoUsd:
        """What counts against the limit."""
        return NanoUsd(self.ledger.settled_nano_usd + self.ledger.expired_nano_usd)

    @property
    def overrun_nano_usd(self) -> NanoUsd:
        """By how much the limit was passed."""
        return NanoUsd(max(0, self.spent_nano_usd - self.limit_nano_usd))


def failures(found: Findings) -> list[str]:
    """Return what does not hold of *found* and must, in words; empty where all does."""
    plan, left = found.plan, found.limit_nano_usd - found.spent_nano_usd
    bound = plan.overrun_bound_nano_usd
    tally = found.tally
    rules = {
        f"the limit was passed by ${_usd(found.overrun_nano_usd)}, and ${_usd(bound)} may be": (
            found.overrun_nano_usd <= bound
        ),
        f"${_usd(left)} of the limit were left, enough for another request": left < PRICE,
        f"${_usd(found.held_nano_usd)} were still held": found.held_nano_usd == 0,
        f"{found.journal_entries} ended requests were not in the ledger": (
            found.journal_entries == 0
        ),
        f"the ledger has {found.ledger_rows} requests, and the providers only"
        f" {found.provider_calls} calls": found.provider_calls >= found.ledger_rows,
        f"the counters do not agree with the ledger: {found.counters} instead of {found.ledger}": (
            found.counters == found.ledger
        ),
        f"{tally.unfinished} clients were never told that the money is spent": (
            tally.unfinished == 0
        ),
        f"a client got an answer that none should get: {tally.unexpected}": (
            tally.unexpected is None
        ),
        "no process was killed in the middle of a request": found.lost > 0,
    }
    return [words for words, holds in rules.items() if not holds]


def to_row(found: Findings) -> Row:
    """Return the figures by name, for programs."""
    counts = found.tally.counts
    plan = found.plan
    row: dict[str, str | int | None] = {
        "limit_nano_usd": found.limit_nano_usd,
        "settled_nano_usd": found.ledger.settled_nano_usd,
        "expired_nano_usd": found.ledger.expired_nano_usd,
        "held_nano_usd": found.held_nano_usd,
        "admitted": found.ledger_rows,
        "refused": counts[Outcome.SPENT] + counts[Outcome.WAIT],
        "provider_calls": found.provider_calls,
        "processes": plan.workers,
        "killed": found.killed,
        "lost_requests": found.lost,
        "paused": found.paused,
        "clients": plan.requests,
        "hung_up": counts[Outcome.HUNG_UP],
        "provider_errors": counts[Outcome.PROVIDER_FAILED],
        "unavailable": counts[Outcome.UNAVAILABLE],
        "broken_connections": counts[Outcome.BROKEN],
        "overrun_nano_usd": found.overrun_nano_usd,
        "overrun_bound_nano_usd": plan.overrun_bound_nano_usd,
        "milliseconds": round(found.seconds * 1000),
    }
    return row


def sentence(found: Findings) -> str:
    """Say in words what the run has shown."""
    failed = failures(found)
    if failed:
        return "Not as it must be: " + "; ".join(failed) + "."
    settled, expired = found.ledger.settled_nano_usd, found.ledger.expired_nano_usd
    kept = (
        f"of a limit of ${_usd(found.limit_nano_usd)}, ${_usd(settled)} were settled and"
        f" ${_usd(expired)} expired, nothing is held any more, and ledger and counters agree to the"
        " nano-dollar"
    )
    if not found.plan.lie_percent:
        return f"The limit was kept: {kept}."
    return (
        f"The limit was passed by ${_usd(found.overrun_nano_usd)}, within the"
        f" ${_usd(found.plan.overrun_bound_nano_usd)} that {found.plan.max_concurrency} requests at"
        f" ${_usd(found.plan.excess_nano_usd)} above their holds can come to: {kept}."
    )


def _usd(amount: int) -> str:
    return format_usd(NanoUsd(amount))
