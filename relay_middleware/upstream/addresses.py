"""
Addresses in a client's messages, where LiteLLM would call them itself.

It is told to fetch no pictures (`library.py`), but what goes to Bedrock has a way of its own, which
does not ask: it takes any size, and while it fetches what a tool answered nobody else is served.

Source: LiteLLM 1.106.2, `litellm_core_utils/prompt_templates/factory.py`, `BedrockImageProcessor`.
"""

import re
from collections.abc import Mapping

FETCHING = frozenset({"bedrock", "bedrock_converse"})
"""Providers for which it does."""

_ADDRESS = re.compile("https?://", re.IGNORECASE)


def name_address(messages: object) -> bool:
    """Say whether a part of *messages* that is no text names an address."""
    left: list[object] = []
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, Mapping) else None
        left += content if isinstance(content, list) else []
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left.extend(each for name, each in value.items() if name != "text")
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, str) and _ADDRESS.search(value):
            return True
    return False
