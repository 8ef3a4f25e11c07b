"""
What the selftest plans: figures that can be checked by hand.
"""

from pathlib import Path

import orjson
import pytest

from proxy_app.selftest.plan import CAP_TOKENS, LIMIT, MODELS, PRICE, Plan
from proxy_app.selftest.strike import pid_of
from relay_middleware.config import Config
from relay_middleware.config.loading import parse_config
from relay_middleware.core.periods import Period
from relay_middleware.testing import Behaviour


def config_of(plan: Plan) -> Config:
    text = orjson.dumps(
        plan.configuration(
            provider_url="http://127.0.0.1:9",
            redis_url="redis://127.0.0.1:1",
            redis_prefix="relay-selftest-0",
            folder=Path("/scratch"),
        )
    )
    return parse_config(text.decode(), "relay.yaml", {})


def test_the_limit_is_fifty_requests() -> None:
    """
    Fifty times 100 tokens at a thousandth of a dollar are the $5.00 of the tier, for a lifetime.
    """
    config = config_of(Plan())
    (tier,) = config.tiers.values()

    assert 50 * PRICE == LIMIT == tier.spend_limits[Period.LIFETIME]
    assert tier.default_output_tokens == CAP_TOKENS
    # 1,000 dollars per million tokens are a million nano-dollars for one.
    assert PRICE == CAP_TOKENS * 1_000_000


def test_all_models_are_served() -> None:
    """
    Whatever clients ask for is configured, and its provider behaves in a way that there is.
    """
    plan = Plan()

    assert {entry.model_name for entry in config_of(plan).model_list} == set(MODELS)
    assert set(plan.behaviours()) == set(MODELS)
    assert {
        name: Behaviour.from_json(members).output_tokens
        for name, members in plan.behaviours().items()
    } == dict.fromkeys(MODELS, "cap")


@pytest.mark.parametrize(
    ("lie_percent", "reported", "cost_cents", "bound_cents"),
    [(0, "cap", 10, 0), (1, 101, 10.1, 2), (50, 150, 15, 100)],
)
def test_a_lie(lie_percent: int, reported: object, cost_cents: float, bound_cents: float) -> None:
    """
    Half more than the cap is 150 tokens for 15 cents: 5 above the hold, and 20 times that is $1.00.
    """
    plan = Plan(lie_percent=lie_percent)
    (tier,) = config_of(plan).tiers.values()

    assert {members["output_tokens"] for members in plan.behaviours().values()} == {reported}
    assert plan.cost_nano_usd == cost_cents * 10_000_000
    assert plan.overrun_bound_nano_usd == bound_cents * 10_000_000
    assert tier.max_concurrency == (20 if lie_percent else None)
    assert plan.has_hang_ups is (lie_percent == 0)


def test_the_process_of_a_worker() -> None:
    """
    A worker's id names its process, also where its host is named with colons.
    """
    assert pid_of("host:4711:ab12") == pid_of("fe80::1:4711:ab12") == 4711
