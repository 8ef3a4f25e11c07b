"""
API keys: what a client presents, and what it may do with it.
"""

from enum import Enum
from hashlib import sha256

from relay_middleware.core.identifiers import ApiKeyId, CustomerId
from relay_middleware.core.values import dataclass

KEY_PREFIX = "mr_sk_"


class KeyRight(Enum):
    """What a key may do; each has exactly one."""

    NAME_CUSTOMERS = "may-name-customers"
    """Name any customer in a header."""
    CUSTOMER = "customer"
    """Act for the one customer it is bound to."""
    MANAGEMENT = "management"
    """Manage; no request of a customer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """
    A key that is in force. The secret itself is known to its owner only.

    Attributes:
        customer_id: The customer it is bound to, exactly where *right* is `CUSTOMER`.
    """

    api_key_id: ApiKeyId
    right: KeyRight
    customer_id: CustomerId | None = None


HOST_KEY = ApiKey(api_key_id=ApiKeyId("host"), right=KeyRight.NAME_CUSTOMERS)
"""Stands in the ledger for a call of the application that Relay is mounted in: it needs no key."""


def hash_key(secret: str) -> str:
    """
    Return what is stored of *secret*: its SHA-256 in hexadecimal.

    A plain hash is enough, and lets a key be looked up: the secret is 256 random bits, so there is
    nothing to guess that a slow or salted hash would protect.
    """
    return sha256(secret.encode()).hexdigest()
