"""
Lists of values in SQL: few lengths, so that there are few statements.
"""

from relay_middleware.ledger.sql import padded


def test_lists_of_all_lengths_have_few() -> None:
    """
    Lists of 1 to 1,024 identifiers become lists of 11 lengths: 1, 2, 4, up to 1,024.
    """
    lists = [[str(number) for number in range(length)] for length in range(1025)]

    longer = [padded(each) for each in lists]

    assert {len(each) for each in longer} == {0, *(2**power for power in range(11))}
    assert [set(each) for each in longer] == [set(each) for each in lists]
    assert all(len(old) <= len(new) for old, new in zip(lists, longer, strict=True))
