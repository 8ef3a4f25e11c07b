"""
Whether the counts of a variant add up.
"""

from collections import Counter
from dataclasses import dataclass, field

from benchmarks.load import Outcome


@dataclass(slots=True, kw_only=True)
class Counts:
    """
    What each side has counted of one variant.

    Attributes:
        planned: What the load generator was told to send.
        provider_calls: What the upstream has received.
        ledger_rows: None where no ledger is kept.
    """

    planned: int = 0
    sent: int = 0
    answers: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    provider_calls: int = 0
    ledger_rows: int | None = None

    def add(self, outcome: Outcome, *, planned: int) -> None:
        """Add what a load has found that was to send *planned* requests."""
        self.planned += planned
        self.sent += outcome.sent
        self.answers += outcome.answers
        self.refusals.update(outcome.refusals)
        self.errors.update(outcome.errors)


def mistakes(counts: Counts) -> list[str]:
    """Return in words what does not add up: nothing, where all is well."""
    refused = counts.refusals.total()
    found = []
    if counts.sent != counts.planned:
        found.append(f"sent {counts.sent:,} of {counts.planned:,} requests")
    if counts.sent != counts.answers + refused:
        found.append(
            f"sent {counts.sent:,} requests, but got {counts.answers:,} answers and {refused:,}"
            f" refusals; errors: {_in_words(counts.errors)}"
        )
    if counts.provider_calls != counts.answers:
        found.append(
            f"the upstream received {counts.provider_calls:,} calls for {counts.answers:,} answers"
        )
    if counts.ledger_rows is not None and counts.provider_calls != counts.ledger_rows:
        found.append(
            f"the upstream received {counts.provider_calls:,} calls, but the ledger has"
            f" {counts.ledger_rows:,} rows"
        )
    return found


def _in_words(errors: Counter[str]) -> str:
    return ", ".join(f"{count:,} x {what}" for what, count in errors.most_common()) or "none"
