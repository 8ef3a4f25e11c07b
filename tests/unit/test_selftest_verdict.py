"""
What the selftest makes of its figures: a verdict on every one that must not be.
"""

from collections import Counter
from dataclasses import replace

import pytest

from proxy_app.selftest.crowd import Outcome, Tally
from proxy_app.selftest.plan import LIMIT, Plan
from proxy_app.selftest.verdict import Counted, Findings, failures, sentence, to_row
from relay_middleware.core.money import NanoUsd

CENT = 10_000_000


def counted(settled_cents: int, expired_cents: int) -> Counted:
    posted = (settled_cents + expired_cents) * CENT
    return Counted(
        settled_nano_usd=NanoUsd(settled_cents * CENT),
        expired_nano_usd=NanoUsd(expired_cents * CENT),
        posted_nano_usd_by_period={"day": posted, "lifetime": posted},
    )


def spent(settled_cents: int, expired_cents: int = 0) -> dict[str, Counted]:
    """Return what both the ledger and the counters say."""
    both = counted(settled_cents, expired_cents)
    return {"ledger": both, "counters": both}


RIGHT = Findings(
    plan=Plan(),
    limit_nano_usd=LIMIT,
    **spent(390, 110),
    held_nano_usd=NanoUsd(0),
    journal_entries=0,
    ledger_rows=55,
    provider_calls=55,
    killed=1,
    lost=11,
    paused=0,
    tally=Tally(
        Counter({Outcome.SPENT: 1000, Outcome.WAIT: 2500, Outcome.UNAVAILABLE: 3}), unfinished=0
    ),
    seconds=8.5,
)
"""$3.90 settled and $1.10 expired of $5.00."""


def test_all_is_as_it_must_be() -> None:
    """
    $3.90 and $1.10 are the limit, and nothing else is amiss: said in words, with the amounts.
    """
    assert failures(RIGHT) == []
    assert sentence(RIGHT) == (
        "The limit was kept: of a limit of $5.00, $3.90 were settled and $1.10 expired, nothing is"
        " held any more, and ledger and counters agree to the nano-dollar."
    )


def test_less_than_a_request_may_be_left() -> None:
    """
    9 cents of $5.00 buy no request of 10 cents.
    """
    assert failures(replace(RIGHT, **spent(491))) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (replace(RIGHT, **spent(501)), "the limit was passed by $0.01, and $0.00 may be"),
        (
            replace(RIGHT, **spent(490)),
            "$0.10 of the limit were left, enough for another request",
        ),
        (replace(RIGHT, held_nano_usd=NanoUsd(1)), "$0.000000001 were still held"),
        (replace(RIGHT, journal_entries=2), "2 ended requests were not in the ledger"),
        (
            replace(RIGHT, ledger_rows=56),
            "the ledger has 56 requests, and the providers only 55 calls",
        ),
        (replace(RIGHT, counters=counted(390, 111)), "the counters do not agree with the ledger: "),
        (
            replace(RIGHT, tally=Tally(unfinished=4)),
            "4 clients were never told that the money is spent",
        ),
        (
            replace(RIGHT, tally=Tally(unexpected="500 oops")),
            "a client got an answer that none should get: 500 oops",
        ),
        (replace(RIGHT, lost=0), "no process was killed in the middle of a request"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_figure_that_must_not_be(found: Findings, words: str) -> None:
    """
    One figure is wrong: it is said, alone, and the verdict is that of a failure.
    """
    (failure,) = failures(found)

    assert failure.startswith(words)
    assert sentence(found).startswith(f"Not as it must be: {words}")


@pytest.mark.parametrize(("settled_cents", "is_kept"), [(600, True), (601, False)])
def test_a_lie_has_a_bound(settled_cents: int, *, is_kept: bool) -> None:
    """
    20 requests at once that cost 5 cents more than their holds pass the limit by $1.00 at most.
    """
    lying = replace(RIGHT, plan=Plan(lie_percent=50), **spent(settled_cents))

    assert (failures(lying) == []) is is_kept


def test_a_lie_is_told_with_its_bound() -> None:
    """
    $5.40 of $5.00 are an overrun of $0.40, within 20 times $0.05.
    """
    lying = replace(RIGHT, plan=Plan(lie_percent=50), **spent(540))

    assert sentence(lying).startswith(
        "The limit was passed by $0.40, within the $1.00 that 20 requests at $0.05 above their"
        " holds can come to: "
    )
    row = to_row(lying)
    assert (row["overrun_nano_usd"], row["overrun_bound_nano_usd"]) == (40 * CENT, 100 * CENT)


def test_figures_for_programs() -> None:
    """
    What was refused is what clients were told with 402 and 429; what was admitted is in the ledger.
    """
    row = to_row(RIGHT)

    assert (row["admitted"], row["refused"], row["unavailable"]) == (55, 3500, 3)
    assert row["limit_nano_usd"] == 500 * CENT
    assert row["settled_nano_usd"] == 390 * CENT
    assert row["expired_nano_usd"] == 110 * CENT
    assert (row["processes"], row["killed"], row["milliseconds"]) == (4, 1, 8500)


def test_what_clients_were_told_twice_is_added() -> None:
    """
    Who asks again is counted again, and is finished when the later time was enough.
    """
    tally = Tally(Counter({Outcome.SPENT: 2, Outcome.WAIT: 1}), unfinished=3)

    tally.add(Tally(Counter({Outcome.SPENT: 5}), unexpected="418"))

    assert tally == Tally(
        Counter({Outcome.SPENT: 7, Outcome.WAIT: 1}), unfinished=0, unexpected="418"
    )
