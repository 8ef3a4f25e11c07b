"""
`POST /v1/chat/completions`: what its body asks for, and what its answer used.

Source: OpenAI API reference, "Create chat completion" and its streaming page, read 2026-11-23.
"""

import re
from collections.abc import Mapping

from relay_middleware.core.endpoints import members
from relay_middleware.core.endpoints.endpoint import Call, Endpoint
from relay_middleware.core.endpoints.members import JsonObject
from relay_middleware.core.refusals import RefusedError, invalid_request
from relay_middleware.core.usage import Usage, from_openai

PATH = "chat/completions"

MAX_CHOICES = 128
"""OpenAI's own ceiling of `n`."""

PAID_MEMBERS = ("web_search_options", "search_parameters", "plugins", "prediction")
"""Members that buy something other than tokens of this answer: searches (OpenAI, xAI, OpenRouter),
and predicted output, whose rejected tokens are billed beyond the output cap."""

_PARAMETERS = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "max_tokens",
        "max_completion_tokens",
        "reasoning_effort",
        "thinking",
        "modalities",
        "audio",
        "verbosity",
        "service_tier",
        "prompt_cache_key",
        "safety_identifier",
        "user",
    }
)

_PLAIN_TOOLS = frozenset({"function", "custom"})
_PLAIN_CONTENT = frozenset({"text", "refusal"})
_BINARY_MEMBERS = frozenset({"image_url", "input_audio", "file"})


def parse(body: object) -> Call:
    """
    Read a decoded request body.

    Raises:
        RefusedError: 400, naming the member that is wrong.
    """
    checked = members.accepted(body)
    messages = members.objects(checked, "messages")
    if not messages:
        raise RefusedError(
            invalid_request(
                "messages is missing or empty: send at least one message.",
                param="messages",
                code="missing_required_parameter" if "messages" not in checked else "empty_array",
            )
        )
    caps = [members.positive(checked, name) for name in ("max_tokens", "max_completion_tokens")]
    is_stream = members.flag(checked, "stream")
    return Call(
        body=checked,
        model=members.text(checked, "model"),
        is_stream=is_stream,
        wants_usage_chunk=is_stream
        and members.flag(members.mapping(checked, "stream_options"), "include_usage"),
        choices=members.positive(checked, "n", at_most=MAX_CHOICES) or 1,
        asked_output_tokens=min((cap for cap in caps if cap is not None), default=None),
        framed_inputs=len(messages),
        has_tools=bool(members.objects(checked, "tools")) or bool(checked.get("functions")),
        has_opaque_input=any(_is_opaque(message) for message in messages),
        unbounded_member=_unbounded_member(checked),
        asks_for_reasoning=_asks_for_reasoning(checked),
        service_tier=members.text(checked, "service_tier"),
        user=checked.get("user"),
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


_NO_REASONING = ("none", "disabled", "minimal")


def _asks_for_reasoning(body: JsonObject) -> bool:
    """Say whether *body* asks for thinking, in OpenAI's, OpenRouter's or Anthropic's words."""
    if body.get("reasoning_effort") not in (None, *_NO_REASONING):
        return True
    thinking = body.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, Mapping) else thinking
    return bool(body.get("reasoning")) or kind not in (None, *_NO_REASONING)


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


ENDPOINT = Endpoint(
    path=PATH,
    parse=parse,
    usage_of=usage_of,
    output_bytes=output_bytes,
    input_bytes=input_bytes,
    to_wire=to_wire,
    answer_member="choices",
    parameters=_PARAMETERS,
)
