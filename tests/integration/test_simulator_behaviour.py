"""
What a behaviour may be, and the rules of text and usage, without a server.
"""

import pytest

from relay_middleware.testing import Behaviour, BehaviourError, simulated_text, tokens_of
from relay_middleware.testing.samples import sample
from relay_middleware.testing.text import pieces, thinking_text
from relay_middleware.testing.usage import reported


def test_every_member_can_be_read_from_json() -> None:
    """
    A JSON object gives the behaviour that the same keyword arguments give.
    """
    members = {"status": 429, "retry_after_s": 3, "output_tokens": "cap", "chunk_delay_s": 1}

    behaviour = Behaviour.from_json(members)

    assert behaviour == Behaviour(
        status=429, retry_after_s=3, output_tokens="cap", chunk_delay_s=1.0
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "a behaviour is a JSON object, not an array"),
        ({"latency": 1}, "unknown: latency; a behaviour has status, "),
        ({"status": "500"}, "status is '500'; it must be an integer or null"),
        ({"status": True}, "status is True; it must be an integer or null"),
        ({"status": 200}, "status is 200; it must be an error, 400 to 599"),
        ({"usage": "lies"}, "usage is 'lies'; it must be 'normal' or 'none' or "),
        ({"output_tokens": "all"}, "it must be an integer or 'cap' or null"),
        ({"latency_s": -1}, "latency_s is -1; it must be a number from 0 on"),
        ({"latency_s": float("inf")}, "latency_s is inf; it must be a number from 0 on"),
        ({"chunk_tokens": 0}, "chunk_tokens is 0; it must be a number from 1 on"),
        ({"crlf": 1}, "crlf is 1; it must be true or false"),
        ({"error_message": None}, "error_message is None; it must be a string"),
    ],
)
def test_a_wrong_member_is_refused_in_words(members: object, message: str) -> None:
    """
    Unknown members and values that cannot be are errors that name the value and the remedy.
    """
    with pytest.raises(BehaviourError) as caught:
        Behaviour.from_json(members)

    assert message in str(caught.value)


def test_the_first_calls_fail() -> None:
    """
    With `fail_first` the members that fail a call are gone after so many calls, others stay.
    """
    behaviour = Behaviour(
        fail_first=2, status=500, stall="after_headers", cut_after_chunks=1, text="Hello"
    )

    assert behaviour.for_call(2) is behaviour
    assert behaviour.for_call(3) == Behaviour(fail_first=2, text="Hello")


def test_fail_every() -> None:
    """
    With `fail_every` 3 the third and the sixth call fail, and no other of the first six.
    """
    behaviour = Behaviour(fail_every=3, status=500)

    failing = [number for number in range(1, 7) if behaviour.for_call(number).status]

    assert failing == [3, 6]


def test_a_token_is_four_bytes() -> None:
    """
    Tokens are counted from UTF-8 bytes, the last one rounded up.
    """
    assert [tokens_of(text) for text in ("", "a", "abcd", "abcde", "éé", "ééé")] == [
        *(0, 1, 1, 2, 1, 2)
    ]


def test_pieces_keep_characters_whole() -> None:
    """
    Cut at 4 bytes, a character of 3 bytes goes whole into the next piece.
    """
    assert list(pieces("ab€cdefg", 1)) == ["ab", "€cde", "fg"]


def test_the_text_follows_from_the_prompt() -> None:
    """
    The same prompt gets the same text, others get other lengths, and all say what they are.
    """
    texts = [simulated_text(prompt, prompt, 0) for prompt in ("one", "two", "three", "four")]

    assert simulated_text("one", "one", 0) == texts[0]
    assert len({len(text) for text in texts}) == 4
    assert all(text.startswith("Simulated answer to: ") for text in texts)


def test_named_numbers_are_reported_as_they_stand() -> None:
    """
    A behaviour may lie: its numbers are reported even where a part exceeds its whole.
    """
    behaviour = Behaviour(
        input_tokens=10, cached_input_tokens=99, output_tokens="cap", reasoning_tokens=77
    )

    usage = reported(behaviour, input_tokens=5, output_tokens=6, reasoning_tokens=1, cap_tokens=50)

    assert usage is not None
    assert (usage.input_tokens, usage.cached_input_tokens) == (10, 99)
    assert (usage.output_tokens, usage.reasoning_tokens) == (50, 77)


@pytest.mark.parametrize("tokens", [0, 1, 5, 200])
def test_thoughts_are_as_long_as_they_are_counted(tokens: int) -> None:
    """
    A text of thoughts has the tokens that are reported for it.
    """
    assert tokens_of(thinking_text("prompt", tokens)) == tokens


def test_a_sample_has_what_its_schema_requires() -> None:
    """
    Required members are there with their type, references are followed, and recursion ends.
    """
    schema = {
        "type": "object",
        "required": ["name", "size", "kind", "self", "any", "tags"],
        "properties": {
            "name": {"$ref": "#/$defs/Name"},
            "size": {"type": ["integer", "null"]},
            "kind": {"enum": ["small", "large"]},
            "self": {"const": 7},
            "any": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "tags": {"type": "array"},
            "optional": {"type": "string"},
        },
        "$defs": {"Name": {"type": "string"}, "Loop": {"$ref": "#/$defs/Loop"}},
    }

    assert sample(schema) == {
        "name": "simulated",
        "size": 0,
        "kind": "small",
        "self": 7,
        "any": True,
        "tags": [],
    }
    assert sample({"$ref": "#"}) == {}
    assert sample(None) == {}
