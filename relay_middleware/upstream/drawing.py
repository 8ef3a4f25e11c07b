"""
Drawing a deployment where none of its group is left out: what the Router would pick then.

LiteLLM's Router costs a sixth of a request, and looks at each deployment that is configured. While
all is well there is nothing for it to decide but a draw by weight.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import DeploymentId


@dataclass(frozen=True, slots=True)
class _Group:
    members: Sequence[Deployment]
    ids: frozenset[DeploymentId]
    weights: Sequence[float] | None


class Draws:
    """Draws from groups of deployments."""

    def __init__(self, groups: Mapping[str, Sequence[Deployment]]) -> None:
        self._groups = {name: _group(members) for name, members in groups.items()}

    def draw(self, group: str, left_out: Collection[DeploymentId]) -> Deployment | None:
        """Return a member of *group*; None where any of its members is left out."""
        members = self._groups[group].members
        if left_out and not self._groups[group].ids.isdisjoint(left_out):
            return None
        if len(members) == 1:
            return members[0]
        # Spreads load, and keeps no secret.
        return random.choices(members, self._groups[group].weights)[0]  # noqa: S311


def _group(members: Sequence[Deployment]) -> _Group:
    """Weigh *members* as LiteLLM's `simple-shuffle` does: beside a weight, none is 0."""
    weights = [each.weight or 0.0 for each in members]
    ids = frozenset(each.deployment_id for each in members)
    return _Group(members, ids, weights if any(weight > 0 for weight in weights) else None)
