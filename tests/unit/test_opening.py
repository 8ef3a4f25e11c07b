"""
The opening of a stream: what its first events are the sign of.
"""

import pytest

from relay_middleware.core.sse import ServerSentEvent
from relay_middleware.upstream.opening import Sign, sign_of


@pytest.mark.parametrize(
    ("data", "sign"),
    [
        (None, Sign.NOTHING),
        (b"", Sign.NOTHING),
        (b" ", Sign.NOTHING),
        (b"[DONE]", Sign.CONTENT),
        (b"{", Sign.FAILURE),
        (b"Internal Server Error", Sign.FAILURE),
        (b"[]", Sign.FAILURE),
        (b'{"error":{"message":"overloaded"}}', Sign.FAILURE),
        (b'{"error":"overloaded","choices":[]}', Sign.FAILURE),
        (b'{"error":null,"choices":[]}', Sign.STARTED),
        (b"{}", Sign.STARTED),
        (b'{"choices":null}', Sign.STARTED),
        (b'{"choices":[null]}', Sign.STARTED),
        (b'{"choices":[{"delta":null,"finish_reason":null}]}', Sign.STARTED),
        (b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', Sign.STARTED),
        (b'{"choices":[],"usage":{"prompt_tokens":1}}', Sign.STARTED),
        (b'{"choices":[{"delta":{"content":"a"}}]}', Sign.CONTENT),
        (b'{"choices":[{"delta":{"role":"assistant","content":"a"}}]}', Sign.CONTENT),
        (b'{"choices":[{"delta":{"reasoning_content":"a"}}]}', Sign.CONTENT),
        (b'{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}', Sign.CONTENT),
        (b'{"choices":[{"delta":{}},{"delta":{"refusal":"no"}}]}', Sign.CONTENT),
        (b'{"choices":[{"delta":{},"finish_reason":"stop"}]}', Sign.CONTENT),
        (b'{"choices":[{"text":"a"}]}', Sign.CONTENT),
    ],
)
def test_signs(data: bytes | None, sign: Sign) -> None:
    """
    An answer begins with content or the end; an error or what is no JSON object is a failure.
    """
    assert sign_of(ServerSentEvent(b"", data)) is sign
