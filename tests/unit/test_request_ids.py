"""
Identifiers of requests: UUIDs of version 7.
"""

import uuid

from relay_middleware.composition import RequestIds


def test_identifiers() -> None:
    """
    2,000 identifiers, more than are drawn at once, are UUIDs of version 7 in their usual form, all
    different, and of ascending milliseconds.
    """
    make = RequestIds()
    texts = [make() for _ in range(2000)]
    found = [uuid.UUID(text) for text in texts]

    assert [str(each) for each in found] == texts
    assert {(each.version, each.variant) for each in found} == {(7, uuid.RFC_4122)}
    assert len(set(found)) == 2000
    unix_ms = [each.int >> 80 for each in found]
    assert unix_ms == sorted(unix_ms)


def test_all_random_bits_change() -> None:
    """
    Of the 74 bits that are drawn each is 0 in some and 1 in others of 200 identifiers.
    """
    make = RequestIds()
    numbers = [uuid.UUID(make()).int for _ in range(200)]
    # Between them, and above, stand variant, version and time.
    drawn = [*range(62), *range(64, 76)]

    for bit in drawn:
        assert {number >> bit & 1 for number in numbers} == {0, 1}
