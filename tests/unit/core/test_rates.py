"""
Rates: how many tokens or requests count against a sliding window, and when there is room again.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.rates import (
    RequestLimit,
    RequestWindow,
    TokenLimit,
    TokenStatus,
    TokenWindow,
)

PER_MINUTE = TokenLimit("1000/minute", 1000, 60)


def window(previous: int, current: int, elapsed_s: float) -> TokenWindow:
    return TokenWindow(
        previous_tokens=previous, current_tokens=current, elapsed_ms=round(elapsed_s * 1000)
    )


def fits(window: TokenWindow, limit: TokenLimit, wanted: int) -> bool:
    """Whether a store would grant *wanted* tokens more."""
    return window.used_tokens(limit) + wanted <= limit.limit_tokens


def later(window: TokenWindow, ms: int) -> TokenWindow:
    """*window* as it is *ms* later, if nobody takes any tokens."""
    return replace(window, elapsed_ms=window.elapsed_ms + ms)


@pytest.mark.parametrize(
    ("elapsed_s", "used"),
    [
        (0, 700),  # all 600 of the minute before, and 100
        (15, 550),  # three quarters of them, and 100
        (59.999, 101),  # 600 / 60,000 of a token, rounded up
        (60, 100),  # the running minute is the one before now: all of its 100
        (90, 50),
        (119.999, 1),
        (120, 0),
        (7200, 0),
    ],
)
def test_what_counts_fades(elapsed_s: float, used: int) -> None:
    """
    Of 600 tokens in the minute before and 100 in this one, the older fade first, a minute each.
    """
    assert window(600, 100, elapsed_s).used_tokens(PER_MINUTE) == used


@pytest.mark.parametrize(
    ("previous", "current", "elapsed_s", "wanted", "retry_after_s"),
    [
        (0, 0, 0, 1000, 0.0),
        (600, 100, 15, 450, 0.0),
        # 451 want the 600 faded to 449: 44.9 s of reach, so 15.1 s into the minute.
        (600, 100, 15, 451, 0.1),
        # 800 leave 200, so 100 of the 600 may count: 10 s of reach, 50 s into the minute.
        (600, 100, 15, 800, 35.0),
        # 900 leave no place for any of the 600: the end of the minute.
        (600, 100, 15, 900, 45.0),
        # 950 leave 50, half of what was taken in this minute: 30 s into the next one.
        (600, 100, 15, 950, 75.0),
        (600, 100, 15, 1000, 105.0),
        # A bucket that nobody has followed up: 30 s into the next minute half of 1000 are left.
        (600, 1000, 90, 1, 0.0),
        (600, 1000, 90, 501, 0.06),
    ],
)
def test_when_there_is_room(
    previous: int, current: int, elapsed_s: float, wanted: int, retry_after_s: float
) -> None:
    """
    The wait is until what was taken has faded to what the wanted tokens leave of 1000 a minute.
    """
    status = window(previous, current, elapsed_s).status(PER_MINUTE, wanted_tokens=wanted)

    assert status.retry_after_s == retry_after_s


def test_status() -> None:
    """
    550 of 1000 count: 450 are left, one of them now, and all of them at the end of the next minute.
    """
    assert window(600, 100, 15).status(PER_MINUTE) == TokenStatus(
        limit=PER_MINUTE, remaining_tokens=450, retry_after_s=0.0, reset_after_s=105.0
    )


@pytest.mark.parametrize(("previous", "reset_after_s"), [(0, 0.0), (1, 60.0)])
def test_more_than_the_limit_waits_until_nothing_is_used(
    previous: int, reset_after_s: float
) -> None:
    """
    1001 tokens never fit 1000 a minute: the wait is for an untouched window, and none where it is.
    """
    status = window(previous, 0, 0).status(PER_MINUTE, wanted_tokens=1001)

    assert (status.retry_after_s, status.reset_after_s) == (reset_after_s, reset_after_s)


def test_a_limit_that_was_lowered() -> None:
    """
    1000 tokens taken under an old limit leave nothing of 100 a minute, and not less than nothing.
    """
    status = window(0, 1000, 0).status(TokenLimit("100/minute", 100, 60), wanted_tokens=50)

    # 50 of the 1000 may count: 3 s of reach, so 57 s into the next minute.
    assert (status.remaining_tokens, status.retry_after_s) == (0, 117.0)


def test_larger_amounts_are_exact() -> None:
    """
    The largest limit over the longest window: in its first millisecond 24 of 2^31 - 1 tokens fade.
    """
    most = 2**31 - 1
    limit = TokenLimit(f"{most}/day", most, 86_400)

    status = window(most, 0, 0).status(limit, wanted_tokens=24)

    # 86,400,000 ms / (2^31 - 1) tokens = 0.0402 ms a token, so 24 take 0.97 ms.
    assert status.retry_after_s == 0.001
    assert window(most, 0, 0.001).used_tokens(limit) == most - 24


LIMITS = st.builds(
    TokenLimit,
    st.just("any"),
    st.one_of(st.integers(1, 100), st.integers(1, 2**31 - 1)),
    st.integers(1, 86_400),
)
TOKENS = st.one_of(st.integers(0, 100), st.integers(0, 2**31 - 1))
WINDOWS = st.builds(
    TokenWindow,
    previous_tokens=TOKENS,
    current_tokens=TOKENS,
    elapsed_ms=st.one_of(st.integers(0, 3000), st.integers(0, 3 * 86_400_000)),
)


@given(window=WINDOWS, limit=LIMITS)
def test_used_is_never_more_than_was_taken(window: TokenWindow, limit: TokenLimit) -> None:
    """
    What counts is at most what was taken, and at least what was taken since the window's start.
    """
    taken = window.previous_tokens + window.current_tokens
    is_running = window.elapsed_ms < limit.window_s * 1000

    assert window.used_tokens(limit) <= taken
    assert window.used_tokens(limit) >= (window.current_tokens if is_running else 0)


@given(window=WINDOWS, limit=LIMITS, steps=st.lists(st.integers(0, 200_000_000), max_size=5))
def test_used_falls_as_time_passes(
    window: TokenWindow, limit: TokenLimit, steps: list[int]
) -> None:
    """
    Without new tokens, what counts never rises, over the ends of buckets too; after two windows it
    is nothing.
    """
    passed = sorted(steps)
    used = [later(window, ms).used_tokens(limit) for ms in [0, *passed]]

    assert used == sorted(used, reverse=True)
    assert later(window, 2 * limit.window_s * 1000).used_tokens(limit) == 0


@given(window=WINDOWS, limit=LIMITS, wanted=st.integers(1, 2**31 - 1))
def test_the_wait_is_enough_and_not_longer(
    window: TokenWindow, limit: TokenLimit, wanted: int
) -> None:
    """
    After the wait the wanted tokens fit, and a millisecond before they do not.
    """
    wanted = min(wanted, limit.limit_tokens)
    wait_ms = round(window.status(limit, wanted_tokens=wanted).retry_after_s * 1000)

    assert fits(later(window, wait_ms), limit, wanted)
    assert wait_ms == 0 or not fits(later(window, wait_ms - 1), limit, wanted)


@given(window=WINDOWS, limit=LIMITS)
def test_what_is_left_can_be_taken(window: TokenWindow, limit: TokenLimit) -> None:
    """
    What a status calls free fits now, and one more does not.
    """
    status = window.status(limit)

    assert status.remaining_tokens == 0 or fits(window, limit, status.remaining_tokens)
    assert not fits(window, limit, status.remaining_tokens + 1)


@given(window=WINDOWS, limit=LIMITS)
def test_the_reset_is_when_nothing_is_used(window: TokenWindow, limit: TokenLimit) -> None:
    """
    At the reset nothing counts any more, and a millisecond before something does.
    """
    reset_ms = round(window.status(limit).reset_after_s * 1000)

    assert later(window, reset_ms).used_tokens(limit) == 0
    assert reset_ms == 0 or later(window, reset_ms - 1).used_tokens(limit) > 0


@given(window=WINDOWS, limit=LIMITS, refund=st.integers(0, 2**31 - 1))
def test_a_refund_frees_what_it_gives_back(
    window: TokenWindow, limit: TokenLimit, refund: int
) -> None:
    """
    Tokens given back to the bucket that runs are free at once, one for one.
    """
    refund = min(refund, window.current_tokens)
    running = replace(window, elapsed_ms=window.elapsed_ms % (limit.window_s * 1000))

    after = replace(running, current_tokens=running.current_tokens - refund)

    assert after.used_tokens(limit) == running.used_tokens(limit) - refund


THREE_A_DAY = RequestLimit("3/day", 3, 86_400)


@pytest.mark.parametrize(
    ("previous", "current", "left_s", "remaining", "reset_after_s"),
    [
        (0, 0, 86_400, 3, 0),  # nothing counted yet
        (0, 3, 86_400, 0, 86_400),  # all three just now: a whole day
        (0, 1, 3_600, 2, 3_600),  # the day ends in an hour
        (2, 1, 64_800, 1, 21_600),  # yesterday's two count 1.5, in 6 h only 1
        (2, 3, 64_800, 0, 21_600),  # more than fit, since the limit was lowered
        (2, 3, 0, 0, 0),  # yesterday's count for nothing
    ],
)
def test_the_reset_is_when_one_more_is_left(
    previous: int, current: int, left_s: int, remaining: int, reset_after_s: float
) -> None:
    """
    Of 3 a day: what two windows leave, and the seconds until one more is left.
    """
    window = RequestWindow(
        previous_requests=previous, current_requests=current, left_ms=left_s * 1000
    )

    status = window.status(THREE_A_DAY)

    assert (status.limit, status.limit_requests) == ("3/day", 3)
    assert (status.remaining_requests, status.reset_after_s) == (remaining, reset_after_s)


@given(
    previous=st.integers(0, 9),
    current=st.integers(0, 9),
    left_ms=st.integers(0, 86_400_000),
)
def test_there_is_room_where_something_is_left(previous: int, current: int, left_ms: int) -> None:
    """
    A request fits exactly where the status says that at least one is left.
    """
    window = RequestWindow(previous_requests=previous, current_requests=current, left_ms=left_ms)

    is_left = window.status(THREE_A_DAY).remaining_requests > 0

    assert window.has_room(THREE_A_DAY) is is_left
