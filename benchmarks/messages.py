"""
What is sent in the benchmarks, and where a message ends.
"""

import json

CHUNKS = 100
"""Pieces of content of a stream."""

_ID = "chatcmpl-benchmark"
_CREATED_AT = 1_700_000_000
_USAGE = {"prompt_tokens": 9, "completion_tokens": 100, "total_tokens": 109}

ANSWER = json.dumps(
    {
        "id": _ID,
        "object": "chat.completion",
        "created": _CREATED_AT,
        "model": "gpt-4o-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello! How can I help you today?"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
    }
).encode()


def question(model: str, *, is_stream: bool) -> bytes:
    """Return the body of a request for *model*."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello!"}],
        "max_tokens": 200,
    }
    if is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body).encode()


def events(chunks: int) -> list[bytes]:
    """Return the events of a stream with so many pieces of content: four more than that."""
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": f" word{number}"}, None) for number in range(chunks)]
    deltas += [({}, "stop")]
    found = [
        _chunk(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])
        for delta, reason in deltas
    ]
    return [*found, _chunk(choices=[], usage=_USAGE), b"data: [DONE]\n\n"]


def _chunk(**more: object) -> bytes:
    chunk = {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": _CREATED_AT,
        "model": "gpt-4o-mini",
        **more,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def end_of_message(received: bytes | bytearray) -> int | None:
    """
    Return how long the HTTP message at the beginning of *received* is, or None as long as it is not
    all there. One in chunks is taken to be the last that was received.
    """
    end_of_head = received.find(b"\r\n\r\n")
    if end_of_head < 0:
        return None
    head = bytes(received[:end_of_head]).lower()
    _, is_measured, rest = head.partition(b"content-length:")
    if is_measured:
        end = end_of_head + 4 + int(rest.split(b"\r\n", 1)[0])
        return end if len(received) >= end else None
    if b"transfer-encoding:" not in head:
        return end_of_head + 4
    return len(received) if received.endswith(b"0\r\n\r\n") else None
