"""
Attribution: who pays, and who may say so.
"""

import pytest

from relay_middleware.core.attribution import (
    attribute,
    collect_headers,
    named_customer,
    presented_secret,
    relay_secret,
)
from relay_middleware.core.identifiers import ApiKeyId, CustomerId, is_customer_id
from relay_middleware.core.keys import ApiKey, KeyRight, hash_key
from relay_middleware.core.refusals import RefusedError

NAMES = ("x-modelrelay-customer-id", "x-customer-id")
NAMING_KEY = ApiKey(api_key_id=ApiKeyId("ak_1"), right=KeyRight.NAME_CUSTOMERS)
BOUND_KEY = ApiKey(
    api_key_id=ApiKeyId("ak_2"), right=KeyRight.CUSTOMER, customer_id=CustomerId("alice")
)
MANAGEMENT_KEY = ApiKey(api_key_id=ApiKeyId("ak_3"), right=KeyRight.MANAGEMENT)


def attributed(key: ApiKey, header: str | None, user: object = None) -> CustomerId:
    in_header = None if header is None else CustomerId(header)
    return attribute(key, in_header=in_header, body_user=user, header_name="X-Customer-Id")


@pytest.mark.parametrize(
    ("key", "header", "user", "expected"),
    [
        (NAMING_KEY, "bob", None, "bob"),
        (NAMING_KEY, None, "carol", "carol"),
        (NAMING_KEY, "bob", "carol", "bob"),
        (BOUND_KEY, None, None, "alice"),
        (BOUND_KEY, "alice", None, "alice"),
        (BOUND_KEY, None, "alice", "alice"),
    ],
)
def test_who_pays(key: ApiKey, header: str | None, user: object, expected: str) -> None:
    """
    The header goes before the body; a bound key acts for its own customer, named or not.
    """
    assert attributed(key, header, user) == expected


@pytest.mark.parametrize(
    ("key", "header", "user", "status_code", "code"),
    [
        (NAMING_KEY, None, None, 400, "customer_required"),
        (NAMING_KEY, None, {"session": 1}, 400, "invalid_customer_id"),
        (NAMING_KEY, None, '{"session":1}', 400, "invalid_customer_id"),
        (BOUND_KEY, "bob", None, 403, "customer_forbidden"),
        (BOUND_KEY, None, "bob", 403, "customer_forbidden"),
        (MANAGEMENT_KEY, "bob", None, 403, "customer_forbidden"),
    ],
)
def test_who_may_not(
    key: ApiKey, header: str | None, user: object, status_code: int, code: str
) -> None:
    """
    No name, no customer id (a JSON document is none), another's name, a management key: refused.
    """
    with pytest.raises(RefusedError) as refused:
        attributed(key, header, user)

    assert (refused.value.refusal.status_code, refused.value.refusal.code) == (status_code, code)


def test_header_names_differ_in_case_only() -> None:
    """
    Header names are matched without regard to case, values stripped of blanks.
    """
    headers = collect_headers([(b"X-Customer-ID", b" bob ")])

    assert named_customer(headers, NAMES) == "bob"


def test_same_name_twice_is_one_name() -> None:
    """
    Two headers that agree name one customer; none names none.
    """
    headers = collect_headers([(b"x-customer-id", b"bob"), (b"x-modelrelay-customer-id", b"bob")])

    assert named_customer(headers, NAMES) == "bob"
    assert named_customer({}, NAMES) is None


@pytest.mark.parametrize(
    "values",
    [[b"bob", b"alice"], [b""], [b"a" * 256], [b'{"a":1}'], [b"a b"], ["é".encode()]],
    ids=["two", "empty", "long", "json", "blank", "latin"],
)
def test_bad_headers_are_refused(values: list[bytes]) -> None:
    """
    Two that differ, an empty one, 256 characters, and characters outside the alphabet are a 400.
    """
    headers = collect_headers([(b"x-customer-id", value) for value in values])

    with pytest.raises(RefusedError) as refused:
        named_customer(headers, NAMES)

    assert refused.value.refusal.code == "invalid_customer_id"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a" * 255, True), ("A-z.0_:@|+=/", True), ("", False), ("a" * 256, False), ("a\n", False)],
)
def test_alphabet_of_customer_ids(text: str, *, expected: bool) -> None:
    """
    1 to 255 characters of the declared alphabet, and no line end after them.
    """
    assert is_customer_id(text) is expected


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(b"Authorization", b"Bearer mr_sk_1")], "mr_sk_1"),
        ([(b"authorization", b"bearer  mr_sk_1 ")], "mr_sk_1"),
        ([(b"x-modelrelay-api-key", b"mr_sk_2")], "mr_sk_2"),
        ([(b"x-modelrelay-api-key", b"b"), (b"authorization", b"Bearer a")], "a"),
        ([(b"authorization", b"Basic x"), (b"x-modelrelay-api-key", b"b")], "b"),
    ],
)
def test_where_a_key_is_presented(pairs: list[tuple[bytes, bytes]], expected: str) -> None:
    """
    `Authorization: Bearer` first, then `X-ModelRelay-Api-Key`.
    """
    assert presented_secret(collect_headers(pairs)) == expected


@pytest.mark.parametrize(
    "pairs", [[], [(b"authorization", b"Bearer ")], [(b"x-modelrelay-api-key", b" ")]]
)
def test_no_key_is_a_401(pairs: list[tuple[bytes, bytes]]) -> None:
    """
    Without a key, or with an empty one, the answer says how to send it.
    """
    with pytest.raises(RefusedError, match="Authorization: Bearer") as refused:
        presented_secret(collect_headers(pairs))

    assert refused.value.refusal.status_code == 401


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], None),
        ([(b"authorization", b"Bearer of-the-host")], None),
        ([(b"authorization", b"Basic bXJfc2tfYQ==")], None),
        ([(b"authorization", b"Bearer mr_sk_a")], "mr_sk_a"),
        ([(b"authorization", b"Bearer of-host"), (b"x-modelrelay-api-key", b"mr_sk_b")], "mr_sk_b"),
    ],
)
def test_a_host_has_tokens_of_its_own(
    pairs: list[tuple[bytes, bytes]], expected: str | None
) -> None:
    """
    On a host's route only what begins as Relay's keys do is one, in either header.
    """
    assert relay_secret(collect_headers(pairs)) == expected


def test_keys_are_stored_as_their_hash() -> None:
    """
    The hash is SHA-256 in hexadecimal (of "abc": FIPS 180-2, appendix B.1).
    """
    assert hash_key("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
