"""
Names of things: distinct types, so that one cannot be passed for another.
"""

import re
from typing import NewType

CustomerId = NewType("CustomerId", str)
HoldId = NewType("HoldId", str)
"""Identifies a request and the hold taken for it: there is one hold per request."""
ApiKeyId = NewType("ApiKeyId", str)
DeploymentId = NewType("DeploymentId", str)

_CUSTOMER_ID = re.compile(r"[A-Za-z0-9._:@|+=/-]{1,255}")


def is_customer_id(text: str) -> bool:
    """
    Say whether *text* may name a customer.

    The alphabet is closed on purpose: a client that puts a JSON document into its user field would
    otherwise make every session a customer with a spend limit of its own.
    """
    return _CUSTOMER_ID.fullmatch(text) is not None
