"""
The page about hard limits explains what the selftest counts.
"""

from collections import Counter

from fixtures.pages import ROOT, code_in, read_page

from proxy_app.selftest.crowd import Tally
from proxy_app.selftest.plan import LIMIT, Plan
from proxy_app.selftest.verdict import Counted, Findings, to_row
from relay_middleware.core.money import NO_MONEY

PAGE = read_page(ROOT / "docs" / "concepts" / "hard-limits.md")

NOTHING = Counted(
    settled_nano_usd=NO_MONEY, expired_nano_usd=NO_MONEY, posted_nano_usd_by_period={}
)


def test_every_figure_of_the_selftest() -> None:
    """
    The table of figures has all that `relay selftest --json` counts, each once, and no other.
    """
    shown = to_row(
        Findings(
            plan=Plan(),
            limit_nano_usd=LIMIT,
            ledger=NOTHING,
            counters=NOTHING,
            held_nano_usd=NO_MONEY,
            journal_entries=0,
            ledger_rows=0,
            provider_calls=0,
            killed=0,
            lost=0,
            paused=0,
            tally=Tally(),
            seconds=0.0,
        )
    )
    rows = [row for row in PAGE.section("The proof").rows if "figure" in row]

    named = Counter(name for row in rows for name in code_in(row["figure"]))

    assert named == Counter(shown.keys())
