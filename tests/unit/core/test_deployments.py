"""
Deployments: what is printed of them, and which are bounded alike.
"""

from dataclasses import fields, replace

import pytest

from relay_middleware.core.deployments import Deployment, Timeouts, with_alikes
from relay_middleware.core.identifiers import DeploymentId

ONE = Deployment(
    deployment_id=DeploymentId("one"),
    model="smart",
    provider="openai",
    deployment_model="gpt-a",
    api_base=None,
    api_key="sk-secret",
)

ELSEWHERE = {
    "api_base": "https://other.example/v1",
    "api_key": "sk-other",
    "credentials": {"organization": "other"},
    "weight": 3.0,
    "order": 2,
    "timeouts": Timeouts(connect_s=1.0),
}
"""What may differ between deployments at which requests have the same bound."""

OTHER = {
    "model": "smarter",
    "provider": "xai",
    "deployment_model": "gpt-b",
    "reasoning_in_output": False,
    "is_output_capped": False,
    "reasons_unasked": False,
    "is_embedding": True,
    "is_translated": True,
    "encoding": "o200k_base",
    "is_upgradable": True,
    "writes_cache_unasked": False,
    "stores_marked_input": True,
}
"""What may not, and `price`."""


def test_a_key_is_not_printed() -> None:
    """
    A deployment in a log or a traceback does not tell its credential.
    """
    assert "sk-secret" not in repr(ONE)


def test_one_stands_for_those_that_are_alike() -> None:
    """
    Of three that differ in where they are and how often they are asked, the first stands for all.
    """
    two = replace(ONE, deployment_id=DeploymentId("two"), **ELSEWHERE)
    three = replace(two, deployment_id=DeploymentId("three"))

    found = with_alikes([ONE, two, three])

    assert [each.bound_id for each in found] == ["one", "one", "one"]
    assert [each.alike_id for each in found] == [None, "one", "one"]
    assert [replace(each, alike_id=None) for each in found] == [ONE, two, three]


@pytest.mark.parametrize("name", OTHER)
def test_who_differs_in_its_bound_stands_for_itself(name: str) -> None:
    """
    A deployment of another model, provider or habit is bounded for itself.
    """
    two = replace(ONE, deployment_id=DeploymentId("two"), **{name: OTHER[name]})

    assert [each.bound_id for each in with_alikes([ONE, two])] == ["one", "two"]


def test_every_field_is_of_one_kind_or_the_other() -> None:
    """
    Whoever adds a field decides whether a bound depends on it.
    """
    names = {each.name for each in fields(Deployment)}

    assert names == {"deployment_id", "alike_id", "price"} | ELSEWHERE.keys() | OTHER.keys()
