"""
Embeddings: what a body asks for, and what an answer used.
"""

import pytest

from relay_middleware.core.endpoints import embeddings
from relay_middleware.core.refusals import RefusedError


@pytest.mark.parametrize(
    ("given", "inputs", "is_opaque"),
    [
        ("text", 1, False),
        (["one", "two"], 2, False),
        ([1, 2, 3], 1, False),
        ([[1, 2], [3]], 2, False),
        ([{"image": "data:..."}], 1, True),
        ([["text", "gs://bucket/film.mp4"]], 1, True),
    ],
    ids=str,
)
def test_what_is_asked_for(given: object, inputs: int, *, is_opaque: bool) -> None:
    """
    A text and a list of tokens are one input each, an array as many as it has; no output is bought.
    """
    call = embeddings.parse({"model": "small", "input": given, "dimensions": 8, "user": "u"})

    assert (call.model, call.user, call.framed_inputs) == ("small", "u", inputs)
    assert (call.choices, call.is_stream, call.has_opaque_input) == (0, False, is_opaque)
    assert (call.contexts, call.unbounded_member) == (inputs, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a text about data: and files/", False),
        (["a", "data:image/png;base64,iVBORw0KGgo="], True),
        ("gs://bucket/film.mp4", True),
        ("my gs://bucket/film.mp4", True),
        ("s3://bucket/film.mp4", True),
        ("files/abc", True),
        ([1, 2], False),
    ],
    ids=str,
)
def test_what_may_be_taken_for_media(given: object, *, expected: bool) -> None:
    """
    An address at the beginning of a text, or Google's anywhere, may be fetched.
    """
    assert embeddings.parse({"input": given}).may_name_media is expected


@pytest.mark.parametrize("name", embeddings.PAID_MEMBERS)
def test_each_unbounded_member_is_named(name: str) -> None:
    """
    Further input, and other models, are found by their names.
    """
    assert embeddings.parse({"input": "a", name: ["x"]}).unbounded_member == name


@pytest.mark.parametrize(
    ("given", "expected"),
    [("hi", "hi"), (["a b", "c"], "a b\nc"), ([12, 3], "12\n3"), ([[1], [2]], "1\n2")],
    ids=str,
)
def test_all_that_a_model_reads(given: object, expected: str) -> None:
    """
    Texts, and tokens as digits, a line each.
    """
    assert embeddings.ENDPOINT.input_text({"input": given, "user": "bob"}) == expected


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "input", "missing"),
        ({"input": []}, "input", "empty"),
        ({"input": ""}, "input", "empty"),
        ({"input": 3}, "input", "a text"),
        ({"input": ["a", ""]}, "input", "array of texts"),
        ({"input": [1, "a"]}, "input", "array of texts"),
        ({"input": ["a"] * 2049}, "input", "2049"),
        ({"input": "a", "dimensions": 0}, "dimensions", "1 to"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "base64"),
        ({"input": "a", "api_base": "http://evil"}, "api_base", "operator"),
    ],
    ids=str,
)
def test_wrong_bodies_are_named(body: dict[str, object], param: str, words: str) -> None:
    """
    What is wrong is a 400 that names the member and what it should be.
    """
    with pytest.raises(RefusedError, match=words) as refused:
        embeddings.parse(body)

    assert (refused.value.refusal.status_code, refused.value.refusal.param) == (400, param)


def test_usage_of_an_answer() -> None:
    """
    The input is what is used; without usage there is none.
    """
    usage = embeddings.usage_of(
        {"usage": {"prompt_tokens": 8, "total_tokens": 8}}, reasoning_in_output=True
    )

    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (8, 0)
    assert embeddings.to_wire(usage) == {"prompt_tokens": 8, "total_tokens": 8}
    assert embeddings.usage_of({}, reasoning_in_output=True) is None


@pytest.mark.parametrize(
    ("given", "expected"), [("é", 2), (["ab", "c"], 3), ([1, 2], 8), ([[1], [2, 3]], 12)], ids=str
)
def test_input_is_counted(given: object, expected: int) -> None:
    """
    UTF-8 bytes of texts count, a token as four; numbers that come back count as nothing.
    """
    assert embeddings.input_bytes({"input": given}) == expected
    assert embeddings.output_sizes(b'{"data":[{"embedding":[0.1]}]}') == []
