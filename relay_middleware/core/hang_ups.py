"""
Hang-ups: what becomes of an answer whose client has gone, and by whose count it is charged.

The rule. Nobody gets for nothing, by leaving, what the operator has to pay for. Where texts tell
what an answer costs, the tier decides whether it is read to its end (`OnDisconnect`). Where they do
not, because the provider bills what it does not send, it is read to its end, whatever the tier
says, for the sake of the provider's report; and if that does not come the request is charged with
the most that it can have cost, which is set aside and never passed.
"""

from relay_middleware.core.bounds import names_rates
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Call
from relay_middleware.core.tiers import OnDisconnect


def is_opaque(call: Call, deployment: Deployment) -> bool:
    """Say whether *deployment* may take some input for more than its text."""
    return call.has_opaque_input or (call.may_name_media and deployment.is_translated)


def is_countable(call: Call, deployment: Deployment) -> bool:
    """
    Say whether the texts of *call* and of what comes of its answer tell what they cost there.

    They do not where there is input other than text, where the model may think (providers bill all
    of it, and send a summary or nothing), where the answer may be spoken or buy something else than
    its tokens, and where the client asked for other rates than the standard ones.
    """
    if is_opaque(call, deployment) or call.unbounded_member is not None:
        return False
    if call.asks_for_audio or names_rates(call.service_tier):
        return False
    return call.choices == 0 or not (call.may_get_reasoning or deployment.reasons_unasked)


def is_read_on(policy: OnDisconnect, *, is_countable: bool) -> bool:
    """
    Say whether an answer is read to its end although its client has gone.

    Args:
        policy: Of the customer's tier.
        is_countable: As from the function of this name, for the deployment that is at work.
    """
    return policy is OnDisconnect.DRAIN or not is_countable


def is_bound_due(*, has_left: bool, is_countable: bool, is_reported: bool) -> bool:
    """
    Say whether an answer is charged with the most that it can have cost.

    Args:
        has_left: Whether its client had gone before its end. Who stays is charged what came, as it
            is counted: that the provider broke off, or reports nothing, is none of its doing.
        is_countable: As for `is_read_on`.
        is_reported: Whether the provider has reported all of it.
    """
    return has_left and not is_countable and not is_reported
