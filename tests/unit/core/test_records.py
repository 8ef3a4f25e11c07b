"""
Records of holds that nothing was charged for.
"""

from fixtures.holds import hold_of
from fixtures.records import AT, attempt

from relay_middleware.core.holds import HoldState
from relay_middleware.core.records import NO_ANSWER, AttemptOutcome, expired, released


def test_an_expired_hold_is_kept_with_its_amount() -> None:
    """
    A hold of 1,000 whose end nobody knows charges nothing, and still says what was set aside.
    """
    record = expired(hold_of("r1"), AT)

    assert (record.hold_id, record.state, record.status_code) == ("r1", HoldState.EXPIRED, 499)
    assert (record.charge_nano_usd, record.hold_nano_usd, record.tokens) == (0, 1000, 0)
    assert (record.reserved_at, record.ended_at) == (AT, AT)


def test_a_released_hold_tells_of_the_tries() -> None:
    """
    What the client got and which providers failed is kept; by default it got nothing, of nobody.
    """
    failed = (attempt(AttemptOutcome.FAILED, 500),)

    tried = released(hold_of("r1"), AT, status_code=502, attempts=failed)
    untried = released(hold_of("r1"), AT)

    assert (tried.state, tried.status_code, tried.attempts) == (HoldState.RELEASED, 502, failed)
    assert (untried.status_code, untried.attempts) == (NO_ANSWER, ())
