"""
What a caller may catch.

RelayError
├── ConfigurationError            a file or setting is wrong; raised at start-up only
├── RefusedError                  the client's request is refused; nothing was charged
│   └── CustomerRequiredError     400  customer_required
├── UpstreamError                 every deployment that could be tried failed
│   ├── UpstreamTimeoutError      504  upstream_timeout
│   ├── UpstreamFailedError       502  upstream_error
│   ├── NoDeploymentError         503  no_deployment_available   Retry-After
│   └── StreamBrokenError         inside a stream that has begun
├── RecordRefusedError            the ledger never takes a record; our bug, kept as a dead letter
└── StoreUnavailableError         503  enforcement_unavailable   Retry-After
    └── NothingChangedError       the same, and it is certain that the command took no effect
        └── ColdStoreError        until the store has been told what the ledger has
"""

from relay_middleware.core.records import Attempt
from relay_middleware.core.refusals import CustomerRequiredError, RefusedError, RelayError

__all__ = [
    "ColdStoreError",
    "ConfigurationError",
    "CustomerRequiredError",
    "NoDeploymentError",
    "NothingChangedError",
    "RecordRefusedError",
    "RefusedError",
    "RelayError",
    "StoreUnavailableError",
    "StreamBrokenError",
    "UpstreamError",
    "UpstreamFailedError",
    "UpstreamTimeoutError",
]


class ConfigurationError(RelayError):
    """The configuration is wrong; the message names key, value and remedy."""


class UpstreamError(RelayError):
    """
    No deployment gave an answer. Nothing is charged.

    Attributes:
        attempts: The tries that were made, oldest first.
    """

    def __init__(self, message: str, *, attempts: tuple[Attempt, ...] = ()) -> None:
        super().__init__(message)
        self.attempts = attempts


class UpstreamFailedError(UpstreamError):
    """The last deployment tried refused the connection or answered with an error."""


class UpstreamTimeoutError(UpstreamError):
    """The last deployment tried did not answer in time."""


class NoDeploymentError(UpstreamError):
    """All deployments are left out for now, or asked us to slow down."""

    def __init__(
        self, message: str, *, retry_after_s: float, attempts: tuple[Attempt, ...] = ()
    ) -> None:
        super().__init__(message, attempts=attempts)
        self.retry_after_s = retry_after_s


class StreamBrokenError(UpstreamError):
    """A provider's stream ended in its middle, after content: told inside the stream."""


class StoreUnavailableError(RelayError):
    """Redis or SQL did not answer in time; whether the command took effect is unknown."""


class NothingChangedError(StoreUnavailableError):
    """The store was not asked, or has refused: the command took no effect."""


class ColdStoreError(NothingChangedError):
    """The store has lost its data, and would let every limit begin anew."""


class RecordRefusedError(RelayError):
    """The ledger is there and never takes this record: repeating it is of no use."""
