"""
Failures: a deployment did not answer, in a way that another one could cure.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from relay_middleware.core.identifiers import DeploymentId

CONNECTION_REFUSED = 503
TIMED_OUT = 408
BROKEN_ANSWER = 502
"""What stands for a status where a deployment gave none, or a 200 and then no answer. The Router
leaves a deployment out for each of them."""

MIN_RETRY_AFTER_S = 1
MAX_RETRY_AFTER_S = 60
"""How long a provider may make us leave a deployment out: asked for a day, we try again after a
minute. 0 would turn the leaving out off."""


class DeploymentFailedError(Exception):
    """
    One deployment failed. Internal: what a caller gets is an `UpstreamError`.

    Its text names no host, and not the class that LiteLLM's Router exempts from being left out.

    Attributes:
        status_code: What the Router decides by; `http_status` where there was one and it tells.
        http_status: The provider's, or None where no answer came.
        failed_deployment_id: The Router's own name of the attribute: it does not pick that
            deployment again for the same request.
        retry_after_s: Whole seconds, within the limits above, or None.
        complaint: What the provider said, redacted, where it was asked for.
    """

    def __init__(
        self,
        deployment_id: DeploymentId,
        status_code: int,
        *,
        http_status: int | None = None,
        retry_after_s: int | None = None,
        complaint: str | None = None,
    ) -> None:
        super().__init__(f"the deployment failed with status {status_code}")
        self.status_code = status_code
        self.http_status = http_status
        self.failed_deployment_id = deployment_id
        self.retry_after_s = retry_after_s
        self.complaint = complaint

    @property
    def has_timed_out(self) -> bool:
        """Whether no answer came in time; a provider's own 408 is an answer."""
        return self.status_code == TIMED_OUT and self.http_status is None

    @property
    def headers(self) -> Mapping[str, str]:
        """What the Router reads the time of leaving out from."""
        return {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}


def retry_after_s(header: str | None, now: datetime) -> int | None:
    """
    Read a `Retry-After` header, in seconds or as a date, up to the next whole second.

    Returns:
        Within `MIN_RETRY_AFTER_S` and `MAX_RETRY_AFTER_S`; None where there is none to be read.

    Source: RFC 9110, 10.2.3.
    """
    if header is None:
        return None
    seconds = _seconds(header.strip(), now)
    if seconds is None:
        return None
    return max(MIN_RETRY_AFTER_S, min(MAX_RETRY_AFTER_S, seconds))


def _seconds(header: str, now: datetime) -> int | None:
    if header.isascii() and header.isdigit():
        return int(header[:10])
    try:
        until = parsedate_to_datetime(header)
    except ValueError:
        return None
    # A date without a zone is in UTC, says the RFC of the format.
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return -int((now - until).total_seconds() // 1)
