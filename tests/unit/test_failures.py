"""
Failures of a deployment: what the Router is told.
"""

from datetime import UTC, datetime

import pytest

from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.upstream.failures import TIMED_OUT, DeploymentFailedError, retry_after_s

NOW = datetime(2026, 11, 23, 12, 0, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("7", 7),
        (" 7 ", 7),
        ("0", 1),
        ("86400", 60),
        ("9" * 5000, 60),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30),
        ("Mon, 23 Nov 2026 12:00:30 -0000", 30),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 1),
        ("Mon, 23 Nov 2026 13:00:00 GMT", 60),
    ],
)
def test_retry_after(header: str | None, seconds: int | None) -> None:
    """
    Seconds and dates are read, up to the next second, and kept within 1 and 60.
    """
    assert retry_after_s(header, NOW) == seconds


def test_what_the_router_reads() -> None:
    """
    Status, deployment and `Retry-After` are where LiteLLM looks for them.
    """
    error = DeploymentFailedError(DeploymentId("one"), 429, http_status=429, retry_after_s=7)

    assert (error.status_code, error.failed_deployment_id) == (429, "one")
    assert error.headers == {"retry-after": "7"}
    assert DeploymentFailedError(DeploymentId("one"), 500).headers == {}


def test_a_providers_own_408_is_no_time_out() -> None:
    """
    A time-out is when no answer came; a provider that says 408 has answered.
    """
    assert DeploymentFailedError(DeploymentId("one"), TIMED_OUT).has_timed_out
    assert not DeploymentFailedError(DeploymentId("one"), TIMED_OUT, http_status=408).has_timed_out
