"""
Hang-ups: nobody gets for nothing, by leaving, what a provider bills and does not send.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Call
from relay_middleware.core.hang_ups import is_bound_due, is_countable, is_read_on
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.tiers import OnDisconnect

PLAIN = Deployment(
    deployment_id=DeploymentId("smart#1"),
    model="smart",
    provider="openai",
    deployment_model="gpt-4o-mini",
    api_base=None,
    api_key=None,
    reasons_unasked=False,
)
TRANSLATED = replace(PLAIN, is_translated=True)
THINKER = replace(PLAIN, reasons_unasked=True)
TEXT = Call(body={}, model="smart", choices=1, framed_inputs=1)
EMBEDDING = replace(TEXT, choices=0)


@pytest.mark.parametrize(
    ("call", "deployment", "expected"),
    [
        (TEXT, PLAIN, True),
        (TEXT, TRANSLATED, True),
        (replace(TEXT, choices=3), PLAIN, True),
        (TEXT, THINKER, False),
        (replace(TEXT, may_get_reasoning=True), PLAIN, False),
        (replace(TEXT, has_opaque_input=True), PLAIN, False),
        (replace(TEXT, asks_for_audio=True), PLAIN, False),
        (replace(TEXT, unbounded_member="plugins"), PLAIN, False),
        (replace(TEXT, service_tier="priority"), PLAIN, False),
        (replace(TEXT, service_tier="flex"), PLAIN, False),
        (replace(TEXT, service_tier="nobody's"), PLAIN, False),
        # What everybody gets who names none.
        (replace(TEXT, service_tier="Default"), PLAIN, True),
        (replace(TEXT, service_tier="auto"), PLAIN, True),
        # An embedding thinks of nothing; but a translated one may look at what a text points to.
        (EMBEDDING, THINKER, True),
        (replace(EMBEDDING, may_name_media=True), PLAIN, True),
        (replace(EMBEDDING, may_name_media=True), TRANSLATED, False),
    ],
    ids=str,
)
def test_what_can_be_counted(call: Call, deployment: Deployment, *, expected: bool) -> None:
    """
    Texts tell what an answer costs but for other input, thinking, speech, what is bought beside,
    and rates of its own.
    """
    assert is_countable(call, deployment) is expected


@pytest.mark.parametrize(
    ("policy", "countable", "expected"),
    [
        (OnDisconnect.DRAIN, True, True),
        (OnDisconnect.DRAIN, False, True),
        (OnDisconnect.CANCEL, True, False),
        (OnDisconnect.CANCEL, False, True),
    ],
)
def test_what_is_read_on(policy: OnDisconnect, *, countable: bool, expected: bool) -> None:
    """
    Only an answer that can be counted is ever hung up on.
    """
    assert is_read_on(policy, is_countable=countable) is expected


@given(has_left=st.booleans(), countable=st.booleans(), reported=st.booleans())
def test_when_the_most_is_due(*, has_left: bool, countable: bool, reported: bool) -> None:
    """
    The most is charged to one who left an answer that nobody can count and no provider reported: of
    the eight cases that is one.
    """
    due = is_bound_due(has_left=has_left, is_countable=countable, is_reported=reported)

    assert due is ((has_left, countable, reported) == (True, False, False))
