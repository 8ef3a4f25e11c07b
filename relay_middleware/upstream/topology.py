"""
Topology: which deployments stand in for which, worked out once from the configuration.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relay_middleware.core.deployments import Deployment
from relay_middleware.errors import ConfigurationError

Fallbacks = Mapping[str, Sequence[str]]
"""By model, the models that stand in for it, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """
    Deployments in groups. Members of a group are alternatives; a group has others to fall back to.

    Groups have names of our own, so that a model called `*` or `openai/gpt-4o` is a name like any
    other to LiteLLM.

    Attributes:
        groups: The deployments of one model and one order, by name of the group.
        fallbacks: By group, the groups that are tried after it: the model's later orders, then
            those of its fallbacks.
        first_group_by_model: Where a request for a model begins.
        reachable_by_model: Every deployment that a request for a model may end up at.
    """

    groups: Mapping[str, tuple[Deployment, ...]]
    fallbacks: Mapping[str, tuple[str, ...]]
    first_group_by_model: Mapping[str, str]
    reachable_by_model: Mapping[str, tuple[Deployment, ...]]


def topology(deployments: Sequence[Deployment], fallbacks: Fallbacks) -> Topology:
    """
    Work out the topology of *deployments*.

    Lower orders are tried first; deployments without one come last.

    Raises:
        ConfigurationError: An identifier is there twice, or a fallback names no model.
    """
    _refuse_duplicates(deployments)
    models = list(dict.fromkeys(each.model for each in deployments))
    _refuse_unknown(models, fallbacks)
    groups: dict[str, tuple[Deployment, ...]] = {}
    groups_by_model: dict[str, list[str]] = {}
    for model in models:
        for members in _by_order(each for each in deployments if each.model == model):
            name = f"group-{len(groups)}"
            groups[name] = members
            groups_by_model.setdefault(model, []).append(name)
    return Topology(
        groups=groups,
        fallbacks=_group_fallbacks(groups_by_model, fallbacks),
        first_group_by_model={model: names[0] for model, names in groups_by_model.items()},
        reachable_by_model={
            model: _members(_closure(model, fallbacks), deployments) for model in models
        },
    )


def _by_order(deployments: Iterable[Deployment]) -> list[tuple[Deployment, ...]]:
    members_by_order: dict[tuple[bool, int], list[Deployment]] = {}
    for each in deployments:
        members_by_order.setdefault((each.order is None, each.order or 0), []).append(each)
    return [tuple(members) for _, members in sorted(members_by_order.items())]


def _group_fallbacks(
    groups_by_model: Mapping[str, Sequence[str]], fallbacks: Fallbacks
) -> dict[str, tuple[str, ...]]:
    return {
        group: (
            *groups[index + 1 :],
            *(name for other in fallbacks.get(model, ()) for name in groups_by_model[other]),
        )
        for model, groups in groups_by_model.items()
        for index, group in enumerate(groups)
    }


def _closure(model: str, fallbacks: Fallbacks) -> list[str]:
    """*model*, its fallbacks, theirs, and so on: a fallback that fails uses its own."""
    reached = [model]
    for each in reached:
        reached += [other for other in fallbacks.get(each, ()) if other not in reached]
    return reached


def _members(models: Sequence[str], deployments: Sequence[Deployment]) -> tuple[Deployment, ...]:
    return tuple(each for model in models for each in deployments if each.model == model)


def _refuse_duplicates(deployments: Sequence[Deployment]) -> None:
    seen = set()
    for each in deployments:
        if each.deployment_id in seen:
            raise ConfigurationError(
                f"two deployments have the identifier {each.deployment_id}; identifiers are unique"
            )
        seen.add(each.deployment_id)


def _refuse_unknown(models: Sequence[str], fallbacks: Fallbacks) -> None:
    for model, others in fallbacks.items():
        for name in (model, *others):
            if name not in models:
                raise ConfigurationError(
                    f"fallbacks: {name!r} is not a model_name; there are {', '.join(models)}"
                )
