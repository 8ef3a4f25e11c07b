"""
Attribution: which customer a request is made for.

A pure function of headers, key and body, so that it is resolved once, before every check.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from relay_middleware.core import refusals
from relay_middleware.core.identifiers import CustomerId, is_customer_id
from relay_middleware.core.keys import KEY_PREFIX, ApiKey, KeyRight
from relay_middleware.core.refusals import CustomerRequiredError, RefusedError, shown

Headers = Mapping[bytes, Sequence[bytes]]
"""Values by lower-case name, in the order in which they came."""

_API_KEY_HEADER = b"x-modelrelay-api-key"

TRUSTED_HEADER = (
    "trust_header: on routes of the host application whoever can send the customer header spends "
    "that customer's money; have a proxy in front that sets it itself"
)
"""What an operator is told who lets the header be believed without a key."""


def collect_headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the values of ASGI's header *pairs* by name."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        headers.setdefault(name.lower(), []).append(value)
    return headers


def presented_secret(headers: Headers) -> str:
    """
    Return the API key that *headers* carry.

    `Authorization: Bearer` goes before `X-ModelRelay-Api-Key`: clients that know both send both.

    Raises:
        RefusedError: 401, there is none.
    """
    for secret in _presented(headers):
        return secret
    raise RefusedError(refusals.invalid_api_key(is_missing=True))


def relay_secret(headers: Headers) -> str | None:
    """
    Return the API key among what *headers* carry, or None.

    A host application's requests may carry tokens of its own, which are none of Relay's business.
    """
    return next((item for item in _presented(headers) if item.startswith(KEY_PREFIX)), None)


def _presented(headers: Headers) -> Iterator[str]:
    for value in headers.get(b"authorization", ()):
        scheme, _, secret = value.partition(b" ")
        if scheme.lower() == b"bearer" and secret.strip():
            yield secret.strip().decode("latin-1")
    for value in headers.get(_API_KEY_HEADER, ()):
        if value.strip():
            yield value.strip().decode("latin-1")


def named_customer(headers: Headers, names: Sequence[str]) -> CustomerId | None:
    """
    Return the customer that one of the headers *names* (lower case) gives, or None.

    Raises:
        RefusedError: 400, a value is no customer id, or two differ.
    """
    values = {value.strip() for name in names for value in headers.get(name.encode("ascii"), ())}
    if not values:
        return None
    if len(values) > 1:
        raise RefusedError(refusals.invalid_customer_id("The customer headers differ."))
    return to_customer_id(values.pop().decode("latin-1"), where=f"The header {names[0]}")


def attribute(
    key: ApiKey, *, in_header: CustomerId | None, body_user: object, header_name: str
) -> CustomerId:
    """
    Decide who pays.

    Args:
        key: The key in force that was presented.
        in_header: From `named_customer`.
        body_user: The body's `user`, where the configuration lets it name a customer, else None.
        header_name: For the message.

    Raises:
        RefusedError: 403, the key may not act for that customer; 400, none is named, or the body's
            name is no customer id.
    """
    if key.right is KeyRight.MANAGEMENT:
        raise RefusedError(refusals.customer_forbidden(None))
    named = in_header
    if named is None and body_user is not None:
        named = to_customer_id(body_user, where="The body's member user")
    if key.customer_id is not None:
        if named is not None and named != key.customer_id:
            raise RefusedError(refusals.customer_forbidden(key.customer_id))
        return key.customer_id
    if named is None:
        raise CustomerRequiredError(refusals.customer_required(header_name))
    return named


def to_customer_id(value: object, *, where: str) -> CustomerId:
    """
    Return *value* as a customer id; *where* begins the message.

    Raises:
        RefusedError: 400, it is none.
    """
    if isinstance(value, str) and is_customer_id(value):
        return CustomerId(value)
    found = shown(value) if isinstance(value, str) else "no text"
    raise RefusedError(refusals.invalid_customer_id(f"{where} holds {found}."))
