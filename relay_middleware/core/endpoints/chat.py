"""
`POST /v1/chat/completions`: what its body asks for, and what its answer used.

Source: OpenAI API reference, "Create chat completion" and its streaming page, read 2026-11-23.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from relay_middleware.core import limit_refusals
from relay_middleware.core.endpoints import members
from relay_middleware.core.endpoints.forbidden import FORBIDDEN_MEMBERS
from relay_middleware.core.endpoints.members import JsonObject
from relay_middleware.core.refusals import RefusedError, invalid_request
from relay_middleware.core.usage import Usage, from_openai

PATH = "chat/completions"

MAX_CHOICES = 128
"""OpenAI's own ceiling of `n`."""

PAID_MEMBERS = ("web_search_options", "search_parameters", "plugins", "prediction")
"""Members that buy something other than tokens of this answer: searches (OpenAI, xAI, OpenRouter),
and predicted output, whose rejected tokens are billed beyond the output cap."""

_PLAIN_TOOLS = frozenset({"function", "custom"})
_PLAIN_CONTENT = frozenset({"text", "refusal"})
_BINARY_MEMBERS = frozenset({"image_url", "input_audio", "file"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """
    What a request asks for, as far as Relay must know.

    Attributes:
        model: As asked, or None for the tier's default.
        wants_usage_chunk: Whether the client asked for a stream's usage.
        choices: Number of answers asked for (`n`), 1 to 128.
        asked_output_tokens: Output cap of one choice that the client named, or None.
        messages: How many there are.
        has_opaque_input: Whether some input's tokens cannot be told from its bytes: images, audio,
            files, and references to what a provider has stored.
        unbounded_member: A member that buys something without a bound, or None.
        service_tier: As asked.
        user: The body's `user`, whatever it is.
    """

    body: JsonObject
    model: str | None
    is_stream: bool
    wants_usage_chunk: bool
    choices: int
    asked_output_tokens: int | None
    messages: int
    has_opaque_input: bool
    unbounded_member: str | None
    service_tier: str | None
    user: object


def parse(body: object) -> ChatCall:
    """
    Read a decoded request body.

    Raises:
        RefusedError: 400, naming the member that is wrong.
    """
    if not isinstance(body, Mapping):
        raise RefusedError(invalid_request("The body must be a JSON object.", code="invalid_type"))
    _refuse_forbidden(body)
    messages = members.objects(body, "messages")
    if not messages:
        raise RefusedError(
            invalid_request(
                "messages is missing or empty: send at least one message.",
                param="messages",
                code="missing_required_parameter" if "messages" not in body else "empty_array",
            )
        )
    caps = [members.positive(body, name) for name in ("max_tokens", "max_completion_tokens")]
    is_stream = members.flag(body, "stream")
    return ChatCall(
        body=body,
        model=members.text(body, "model"),
        is_stream=is_stream,
        wants_usage_chunk=is_stream
        and members.flag(members.mapping(body, "stream_options"), "include_usage"),
        choices=members.positive(body, "n", at_most=MAX_CHOICES) or 1,
        asked_output_tokens=min((cap for cap in caps if cap is not None), default=None),
        messages=len(messages),
        has_opaque_input=any(_is_opaque(message) for message in messages),
        unbounded_member=_unbounded_member(body),
        service_tier=members.text(body, "service_tier"),
        user=body.get("user"),
    )


def _refuse_forbidden(body: JsonObject) -> None:
    for name in body:
        if name in FORBIDDEN_MEMBERS:
            raise RefusedError(
                invalid_request(
                    f"{name} is not accepted from clients: routes and credentials are the "
                    "operator's. Leave it out.",
                    param=name,
                    code="forbidden_parameter",
                )
            )


def _is_opaque(message: JsonObject) -> bool:
    """Say whether *message* carries more than text; refuse one whose content has no such form."""
    if message.get("audio") is not None:  # an earlier spoken answer, by reference
        return True
    content = message.get("content")
    if content is None or isinstance(content, str):
        return False
    if not isinstance(content, list):
        raise members.wrong_type("messages", "a list of messages whose content is text or parts")
    return any(
        not isinstance(part, Mapping) or part.get("type") not in _PLAIN_CONTENT for part in content
    )


def _unbounded_member(body: JsonObject) -> str | None:
    for name in PAID_MEMBERS:
        if body.get(name) is not None:
            return name
    tools = members.objects(body, "tools")
    if any(tool.get("type", "function") not in _PLAIN_TOOLS for tool in tools):
        return "tools"
    return None


def refuse_unbounded(call: ChatCall) -> None:
    """
    Refuse what a spend limit cannot be kept for.

    Raises:
        RefusedError: 400, *call* buys something without a bound.
    """
    if call.unbounded_member is not None:
        what = f"What {call.unbounded_member} asks for"
        raise RefusedError(limit_refusals.cannot_be_bounded(what, call.unbounded_member))


def usage_of(answer: JsonObject, *, reasoning_in_output: bool) -> Usage | None:
    """Return what *answer*, whole or one chunk, says was used; None where it says nothing."""
    return from_openai(
        answer.get("usage"),
        reasoning_in_output=reasoning_in_output,
        service_tier=answer.get("service_tier"),
    )


# The texts of an answer, as JSON writes them: for counting where no provider did. Escapes make a
# text a little longer than it is.
_OUTPUT_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal|arguments)":\s*"((?:[^"\\]|\\.)*)"'
)


def output_bytes(data: bytes) -> int:
    """Return the bytes of text that the JSON *data* of an answer or a chunk carries."""
    return sum(len(match[1]) for match in _OUTPUT_TEXT.finditer(data))


def input_bytes(body: JsonObject) -> int:
    """
    Return the UTF-8 bytes of all texts in *body*'s messages and tools, roles and types too.

    What a picture or a recording would come to is not known and counts as nothing.
    """
    return sum(_text_bytes(body.get(name)) for name in ("messages", "tools"))


def _text_bytes(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Mapping):
        return sum(_text_bytes(value[name]) for name in value.keys() - _BINARY_MEMBERS)
    if isinstance(value, list):
        return sum(_text_bytes(item) for item in value)
    return 0


def to_wire(usage: Usage) -> dict[str, object]:
    """Return *usage* as OpenAI's `usage` object: for answers whose provider sent none."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
