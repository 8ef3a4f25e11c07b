"""
OpenAI's embeddings: vectors of length 1 that follow from a hash of their input.

Equal inputs get equal vectors; similar inputs get nothing similar. Usage has input only: the tokens
of every text, or the length of every array of token numbers, without anything per message.

Source: OpenAI API reference, "Create embeddings", read 2026-11-23.
"""

import math
import struct
from base64 import b64encode
from collections.abc import Sequence
from hashlib import shake_256

import orjson

from relay_middleware.testing import members
from relay_middleware.testing.behaviour import Behaviour
from relay_middleware.testing.calls import RecordedCall
from relay_middleware.testing.members import JsonObject
from relay_middleware.testing.reply import BodyReply, Reply
from relay_middleware.testing.text import tokens_of
from relay_middleware.testing.usage import reported

DEFAULT_DIMENSIONS = 8
MAX_DIMENSIONS = 4096
_COMPONENT_BYTES = 4

Text = str | Sequence[int]
"""One input: a text, or the numbers of its tokens."""


def embeddings_reply(call: RecordedCall, behaviour: Behaviour) -> Reply:
    """
    Answer `POST embeddings`.

    Raises:
        RefusedError: The request is not one that OpenAI takes.
    """
    body = members.body_of(call.body)
    model = members.string(body, "model")
    texts = _texts(body)
    dimensions = (
        members.integer(body, "dimensions", least=1, most=MAX_DIMENSIONS) or DEFAULT_DIMENSIONS
    )
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise members.wrong_value("encoding_format", "'float' or 'base64'")
    vectors = [_vector(text, dimensions) for text in texts]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _base64(vector) if encoding == "base64" else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    answer = {
        "object": "list",
        "data": data,
        "model": model,
        **_usage(texts, behaviour),
        "x_simulator": call.mark(),
    }
    return BodyReply(status=200, body=orjson.dumps(answer), headers={})


def _texts(body: JsonObject) -> Sequence[Text]:
    given = body.get("input")
    if isinstance(given, str) and given:
        return [given]
    if isinstance(given, list) and given:
        if _is_tokens(given):
            return [given]
        if all(_is_text(text) for text in given):
            return given
    raise members.wrong_value(
        "input", "a string or an array of strings, of tokens or of arrays of tokens, not empty"
    )


def _is_text(text: object) -> bool:
    return (isinstance(text, str) and bool(text)) or _is_tokens(text)


def _is_tokens(text: object) -> bool:
    return (
        isinstance(text, list)
        and bool(text)
        and all(isinstance(token, int) and not isinstance(token, bool) for token in text)
    )


def _vector(text: Text, dimensions: int) -> list[float]:
    digest = shake_256(orjson.dumps(text)).digest(_COMPONENT_BYTES * dimensions)
    # Odd numbers: no component is 0, so no vector is.
    raw = [2 * number + 1 for number in struct.unpack(f"<{dimensions}i", digest)]
    length = math.hypot(*raw)
    return [number / length for number in raw]


def _base64(vector: Sequence[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _usage(texts: Sequence[Text], behaviour: Behaviour) -> dict[str, object]:
    counted = sum(tokens_of(text) if isinstance(text, str) else len(text) for text in texts)
    usage = reported(
        behaviour, input_tokens=counted, output_tokens=0, reasoning_tokens=0, cap_tokens=None
    )
    if usage is None:
        return {}
    return {"usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}}
