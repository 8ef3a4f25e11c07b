"""
The opening of a provider's stream: what its first events are good for.

A stream may still be answered by another deployment until its first content has come, so its
beginning is looked at before the client is told that there is an answer.
"""

from collections.abc import Mapping
from enum import Enum

import orjson

from relay_middleware.core.sse import DONE, ServerSentEvent


class Sign(Enum):
    """What one event says of the stream that it opens."""

    NOTHING = "nothing"
    """A comment or a keep-alive."""
    STARTED = "started"
    """The provider works, and has said nothing yet."""
    CONTENT = "content"
    """An answer: text, reasoning, a tool's call, or the end."""
    FAILURE = "failure"
    """An error, or no JSON object."""


def sign_of(event: ServerSentEvent) -> Sign:
    """Say what *event* is the sign of, in a stream of OpenAI's chat or text completions."""
    if event.data is None or not event.data.strip():
        return Sign.NOTHING
    if event.data.strip() == DONE:
        return Sign.CONTENT
    try:
        data = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        return Sign.FAILURE
    if not isinstance(data, dict) or data.get("error"):
        return Sign.FAILURE
    choices = data.get("choices")
    if isinstance(choices, list) and any(_has_content(choice) for choice in choices):
        return Sign.CONTENT
    return Sign.STARTED


def _has_content(choice: object) -> bool:
    if not isinstance(choice, Mapping):
        return False
    if choice.get("finish_reason") or choice.get("text"):
        return True
    delta = choice.get("delta")
    # Whatever a provider calls it (`reasoning`, `reasoning_content`, `audio`): all but the role.
    return isinstance(delta, Mapping) and any(
        value for name, value in delta.items() if name != "role"
    )
