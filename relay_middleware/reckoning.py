"""
Reckoning: what an answer has used, as it was reported, as it was counted, or at most.
"""

from dataclasses import replace
from functools import partial

from relay_middleware.admission import Admitted
from relay_middleware.core import hang_ups
from relay_middleware.core.charging import Bill, bill, most_used
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Endpoint
from relay_middleware.core.streams import StreamAnnotator
from relay_middleware.core.usage import (
    Usage,
    UsageSource,
    counted_usage,
    within_cap,
    without_output,
)
from relay_middleware.core.values import dataclass
from relay_middleware.ports.providers import StreamAnswer, WholeAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption:
    """What was used of which deployment, who says so, and what it costs."""

    usage: Usage
    source: UsageSource
    deployment: Deployment
    billed: Bill


class Reckoning:
    """
    Reckons up one admitted request.

    *has_left* says everywhere whether the client had gone before the answer's end.
    """

    def __init__(self, endpoint: Endpoint, admitted: Admitted) -> None:
        self._endpoint = endpoint
        self._admitted = admitted

    def whole(self, answer: WholeAnswer, *, has_left: bool) -> Consumption:
        """Return what an answer that is no stream comes to."""
        deployment = answer.deployment
        usage = self._endpoint.usage_of(
            answer.members, reasoning_in_output=deployment.reasoning_in_output
        )
        if usage is not None:
            return self._consumption(deployment, usage, UsageSource.PROVIDER)
        output_bytes = sum(self._endpoint.output_sizes(answer.body))
        return self._unreported(deployment, self._input_and(output_bytes), has_left=has_left)

    def stream(
        self, answer: StreamAnswer, annotator: StreamAnnotator, *, has_left: bool
    ) -> Consumption:
        """Return what a stream comes to, of which *annotator* has seen all that came."""
        deployment = answer.deployment
        usage, source = annotator.usage_so_far(partial(self._begun, answer))
        if source is UsageSource.COUNTED:
            usage = self._capped(deployment, usage)
        came = self._consumption(deployment, usage, source)
        if self._is_bound_due(deployment, has_left=has_left, is_reported=annotator.is_reported):
            return self._most(came)
        return came

    def unanswered(self, deployment: Deployment, *, has_left: bool) -> Consumption:
        """Return what a request comes to that was sent, and then given up."""
        return self._unreported(deployment, self._input_and(0), has_left=has_left)

    def longest(self, deployment: Deployment, *, has_left: bool) -> Consumption:
        """Return what an answer comes to that is too long to be read: all that its caps allow."""
        usage = replace(self._input_and(0), output_tokens=self._most_output(deployment))
        return self._unreported(deployment, usage, has_left=has_left)

    def is_read_on(self, deployment: Deployment | None) -> bool:
        """
        Say whether the answer is read to its end although the client has gone.

        Args:
            deployment: The one that has got the request; None: none has.
        """
        return hang_ups.is_read_on(
            self._admitted.tier.on_disconnect,
            is_countable=deployment is None or self._is_countable(deployment),
        )

    def _unreported(self, deployment: Deployment, usage: Usage, *, has_left: bool) -> Consumption:
        """What the provider says nothing of: *usage*, as it was counted, or the most it can be."""
        counted = self._capped(deployment, usage)
        came = self._consumption(deployment, counted, UsageSource.COUNTED)
        if self._is_bound_due(deployment, has_left=has_left, is_reported=False):
            return self._most(came)
        return came

    def _is_bound_due(self, deployment: Deployment, *, has_left: bool, is_reported: bool) -> bool:
        is_countable = self._is_countable(deployment)
        return hang_ups.is_bound_due(
            has_left=has_left, is_countable=is_countable, is_reported=is_reported
        )

    def _most(self, came: Consumption) -> Consumption:
        """
        The most that can have been used where *came* has, but never less than that: without a limit
        nobody need know how long an answer may be, and then what came of it counts.
        """
        admitted, source, cap = self._admitted, UsageSource.BOUND, self._admitted.output_cap_tokens
        candidate = admitted.demand.at(came.deployment.bound_id)
        if admitted.call.choices and not candidate.output_tokens(cap):
            source = UsageSource.COUNTED
            cap = -(-came.usage.output_tokens // admitted.call.choices)
            candidate = replace(candidate, is_output_capped=True)
        usage, billed = most_used(admitted.demand, candidate, cap)
        if billed.charge_nano_usd < came.billed.charge_nano_usd:
            return came
        return replace(came, usage=usage, source=source, billed=billed)

    def _capped(self, deployment: Deployment, usage: Usage) -> Usage:
        most = self._most_output(deployment)
        return within_cap(usage, most) if most else usage

    def _consumption(
        self, deployment: Deployment, usage: Usage, source: UsageSource
    ) -> Consumption:
        billed = bill(deployment.price, usage, self._admitted.tier.margin)
        return Consumption(usage=usage, source=source, deployment=deployment, billed=billed)

    def _is_countable(self, deployment: Deployment) -> bool:
        return self._admitted.demand.at(deployment.bound_id).is_countable

    def _most_output(self, deployment: Deployment) -> int:
        """All answers together; 0 where nobody knows."""
        admitted = self._admitted
        candidate = admitted.demand.at(deployment.bound_id)
        return admitted.call.choices * candidate.output_tokens(admitted.output_cap_tokens)

    def _begun(self, answer: StreamAnswer) -> Usage:
        """What was used before any output: as the provider has told, or counted."""
        told = self._endpoint.usage_of({"usage": answer.early_usage()}, reasoning_in_output=True)
        return self._input_and(0) if told is None else without_output(told)

    def _input_and(self, output_bytes: int) -> Usage:
        return counted_usage(
            input_bytes=self._endpoint.input_bytes(self._admitted.call.body),
            output_bytes=output_bytes,
        )
