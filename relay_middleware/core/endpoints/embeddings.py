"""
`POST /v1/embeddings`: what its body asks for, and what its answer used.

Source: OpenAI API reference, "Create embeddings", read 2026-11-23.
"""

import re

from relay_middleware.core.endpoints import members
from relay_middleware.core.endpoints.endpoint import Call, Endpoint
from relay_middleware.core.endpoints.members import JsonObject
from relay_middleware.core.refusals import RefusedError, invalid_request
from relay_middleware.core.usage import Usage, from_openai

PATH = "embeddings"

MAX_INPUTS = 2048
"""OpenAI's own ceiling of an array."""

PAID_MEMBERS = ("messages", "images", "inputs", "models", "route", "provider", "extra_body")
"""Members by which a server takes further input, or another model: vLLM, "Embeddings API"; Voyage,
"Multimodal embeddings"; OpenRouter, "Embeddings"; read 2026-11-24."""

_ENCODING_FORMATS = ("float", "base64")

_PARAMETERS = frozenset({"input", "dimensions", "user"})
"""Without `encoding_format`: a translated provider's numbers are encoded here."""


def parse(body: object) -> Call:
    """
    Read a decoded request body.

    Raises:
        RefusedError: 400, naming the member that is wrong.
    """
    checked = members.accepted(body)
    encoding_format = members.text(checked, "encoding_format")
    if encoding_format is not None and encoding_format not in _ENCODING_FORMATS:
        raise members.wrong_type("encoding_format", " or ".join(_ENCODING_FORMATS))
    members.positive(checked, "dimensions")
    inputs = _inputs(checked)
    return Call(
        body=checked,
        model=members.text(checked, "model"),
        choices=0,
        framed_inputs=len(inputs),
        contexts=len(inputs),
        # What is no text (a picture, at providers that take one) costs what no length tells.
        has_opaque_input=not all(_is_text(item) for item in inputs),
        may_name_media=any(isinstance(item, str) and _MEDIA.search(item) for item in inputs),
        unbounded_member=next((name for name in PAID_MEMBERS if checked.get(name)), None),
        user=checked.get("user"),
    )


_MEDIA = re.compile(r"^data:|^s3://|gs://|^files/|^https://")
"""Texts that LiteLLM 1.106.2 hands to multimodal models as what they point to
(`llms/bedrock/embed`, `llms/cohere/embed`, `llms/vertex_ai/multimodal_embeddings` and
`gemini_embeddings`, read 2026-11-24)."""


def _inputs(body: JsonObject) -> list[object]:
    """The texts, or token lists, of `input`: one, or an array of them."""
    given = body.get("input")
    if given is None or given in ("", []):
        raise RefusedError(
            invalid_request(
                "input is missing or empty: send a text, or an array of texts.",
                param="input",
                code="missing_required_parameter" if "input" not in body else "empty_array",
            )
        )
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise members.wrong_type("input", "a text, or an array of texts or tokens")
    if all(_is_token(item) for item in given):
        return [given]
    if len(given) > MAX_INPUTS:
        raise RefusedError(
            invalid_request(
                f"input has {len(given)} items; send at most {MAX_INPUTS}.", param="input"
            )
        )
    if any(_is_token(item) or item in ("", []) for item in given):
        raise members.wrong_type("input", "a text, or an array of texts or of token arrays")
    return given


def _is_text(item: object) -> bool:
    """Say whether *item* is a text, as it is written or as tokens."""
    return isinstance(item, str) or (isinstance(item, list) and all(map(_is_token, item)))


def _is_token(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def usage_of(answer: JsonObject, *, reasoning_in_output: bool) -> Usage | None:
    """Return what *answer* says was used; None where it says nothing."""
    return from_openai(answer.get("usage"), reasoning_in_output=reasoning_in_output)


def output_sizes(_: bytes) -> list[int]:
    """Return nothing: numbers are no output tokens."""
    return []


def input_bytes(body: JsonObject) -> int:
    """Return the UTF-8 bytes of all texts in *body*'s input; a token counts as four."""
    return _text_bytes(body.get("input"))


_BYTES_OF_A_TOKEN = 4


def _text_bytes(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, list):
        return sum(_text_bytes(item) for item in value)
    return _BYTES_OF_A_TOKEN if _is_token(value) else 0


def input_text(body: JsonObject) -> str:
    """Return the texts of *body*'s input, a line each; a token is at least one of its digits."""
    return "\n".join(members.texts(body.get("input")))


def to_wire(usage: Usage) -> dict[str, object]:
    """Return *usage* as OpenAI's `usage` object of embeddings."""
    return {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}


ENDPOINT = Endpoint(
    path=PATH,
    parse=parse,
    usage_of=usage_of,
    output_sizes=output_sizes,
    input_bytes=input_bytes,
    input_text=input_text,
    to_wire=to_wire,
    answer_member="data",
    parameters=_PARAMETERS,
)
