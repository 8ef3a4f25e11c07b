"""
Addresses in messages: what is no text may be called, what is text is read.
"""

import pytest

from relay_middleware.upstream.addresses import name_address

ADDRESS = "https://pictures.invalid/1.png"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"Look at {ADDRESS}", False),
        ([{"type": "text", "text": ADDRESS}], False),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0"}}], False),
        ([{"type": "image_url", "image_url": {"url": "s3://bucket/1.png"}}], False),
        ([{"type": "image_url", "image_url": {"url": ADDRESS}}], True),
        ([{"type": "image_url", "image_url": "x HTTP://pictures.invalid/1.png"}], True),
        ([{"type": "file", "file": [{"file_data": ADDRESS}]}], True),
        (None, False),
        ([None, 5], False),
    ],
    ids=str,
)
def test_addresses(content: object, *, expected: bool) -> None:
    """
    A part names one wherever it stands in it, but for its text.
    """
    assert name_address([{"role": "user", "content": content}]) is expected


@pytest.mark.parametrize("messages", [None, "https://a", [None], [["https://a"]]], ids=str)
def test_what_is_no_list_of_messages(messages: object) -> None:
    """
    What is in no message is no part of one.
    """
    assert name_address(messages) is False
