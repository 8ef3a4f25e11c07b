"""
Drawing without the Router: what it would pick while all of a group are well.
"""

from collections import Counter

import pytest

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.upstream.drawing import Draws

DRAWS = 4000


def deployment(name: str, weight: float | None = None) -> Deployment:
    return Deployment(
        deployment_id=DeploymentId(name),
        model="smart",
        provider="openai",
        deployment_model="gpt-4o-mini",
        api_base=None,
        api_key=None,
        weight=weight,
    )


def drawn(weights: list[float | None]) -> Counter[str]:
    """Draw from a group of `d0`, `d1` and so on with *weights*; return how often each came."""
    members = [deployment(f"d{i}", weight=weight) for i, weight in enumerate(weights)]
    draws = Draws({"group": members})
    found = (draws.draw("group", ()) for _ in range(DRAWS))
    return Counter(str(each.deployment_id) for each in found if each is not None)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([None], [1.0]),
        ([None, None], [0.5, 0.5]),
        ([3.0, 1.0], [0.75, 0.25]),
        ([3.0, 1.0, 0.0], [0.75, 0.25, 0.0]),
        ([2.0, None], [1.0, 0.0]),  # as LiteLLM has it: no weight beside one is 0
        ([0.0, 0.0], [0.5, 0.5]),
    ],
)
def test_shares(weights: list[float | None], shares: list[float]) -> None:
    """
    Of 4,000 draws each member gets its share, give or take 200 (six times the deviation at most).
    """
    found = drawn(weights)

    for i, share in enumerate(shares):
        assert abs(found[f"d{i}"] - share * DRAWS) <= (200 if 0 < share < 1 else 0)


def test_a_group_of_which_one_is_left_out_is_for_the_router() -> None:
    """
    Of two groups with two members the one is drawn from, the other not while a member is left out.
    """
    groups = {
        "well": [deployment("a"), deployment("b")],
        "ill": [deployment("c"), deployment("d")],
    }
    draws = Draws(groups)
    left_out = {DeploymentId("d")}

    assert draws.draw("ill", left_out) is None
    assert draws.draw("well", left_out) in groups["well"]
    assert draws.draw("ill", set()) in groups["ill"]
