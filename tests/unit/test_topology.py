"""
Topology: which deployments a request may end up at.
"""

import pytest

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.errors import ConfigurationError
from relay_middleware.upstream.topology import topology


def at(name: str, model: str, order: int | None = None) -> Deployment:
    """A deployment of *model* called *name*."""
    return Deployment(
        deployment_id=DeploymentId(name),
        model=model,
        provider="openai",
        deployment_model="gpt-a",
        api_base=None,
        api_key=None,
        order=order,
    )


def test_deployments_of_a_model_are_one_group() -> None:
    """
    Alternatives are in a group, and a group without fallbacks has none.
    """
    one, two, other = at("1", "a"), at("2", "a"), at("3", "b")

    plan = topology([one, other, two], {})

    assert plan.groups == {"group-0": (one, two), "group-1": (other,)}
    assert plan.first_group_by_model == {"a": "group-0", "b": "group-1"}
    assert plan.fallbacks == {"group-0": (), "group-1": ()}


def test_orders_are_groups_in_a_chain() -> None:
    """
    Order 1 falls back to order 2, that to those without an order, and they to the other model.
    """
    plan = topology(
        [at("none", "a"), at("second", "a", 2), at("first", "a", 1), at("b", "b")], {"a": ["b"]}
    )

    names = {
        name: [each.deployment_id for each in members] for name, members in plan.groups.items()
    }
    assert names == {
        "group-0": ["first"],
        "group-1": ["second"],
        "group-2": ["none"],
        "group-3": ["b"],
    }
    assert plan.fallbacks == {
        "group-0": ("group-1", "group-2", "group-3"),
        "group-1": ("group-2", "group-3"),
        "group-2": ("group-3",),
        "group-3": (),
    }


def test_reachable_is_closed_over_fallbacks() -> None:
    """
    A fallback uses its own fallbacks, so those count too, and a circle ends.
    """
    a, b, c, d = at("1", "a"), at("2", "b"), at("3", "c"), at("4", "d")

    plan = topology([a, b, c, d], {"a": ["b"], "b": ["c"], "c": ["a"]})

    assert plan.reachable_by_model == {
        "a": (a, b, c),
        "b": (b, c, a),
        "c": (c, a, b),
        "d": (d,),
    }


@pytest.mark.parametrize("name", ["*", "openai/*", "openai/gpt-4o", "auto_router/x", "group-0"])
def test_names_mean_nothing(name: str) -> None:
    """
    A model may be called what LiteLLM gives a meaning to: no group is called so.
    """
    plan = topology([at("1", name), at("2", "gpt-4o")], {"gpt-4o": [name]})

    assert [each.model for each in plan.reachable_by_model[name]] == [name]
    assert plan.fallbacks == {"group-0": (), "group-1": ("group-0",)}


def test_identifiers_are_unique() -> None:
    """
    Two deployments of one identifier could not be told apart.
    """
    with pytest.raises(ConfigurationError, match="two deployments have the identifier 1"):
        topology([at("1", "a"), at("1", "b")], {})


@pytest.mark.parametrize("fallbacks", [{"a": ["c"]}, {"c": ["a"]}, {"*": ["a"]}])
def test_a_fallback_names_a_model(fallbacks: dict[str, list[str]]) -> None:
    """
    A fallback from or to what is no model is a mistake, told at start.
    """
    with pytest.raises(ConfigurationError, match="is not a model_name; there are a, b"):
        topology([at("1", "a"), at("2", "b")], fallbacks)
