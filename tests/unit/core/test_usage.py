"""
Usage: what a provider counted, in one vocabulary.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.requirements import missing
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.usage import (
    Usage,
    UsageParts,
    counted_usage,
    from_openai,
    split,
    with_output,
    within_cap,
    without_output,
)

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "recorded_usages.json"

COUNT = st.integers(min_value=0, max_value=1000)
USAGES = st.builds(
    Usage,
    input_tokens=COUNT,
    output_tokens=COUNT,
    cached_input_tokens=COUNT,
    cache_write_input_tokens=COUNT,
    cache_write_1h_input_tokens=COUNT,
    audio_input_tokens=COUNT,
    reasoning_tokens=COUNT,
    audio_output_tokens=COUNT,
)


def test_reads_all_parts_of_openais_usage() -> None:
    """
    Every count that OpenAI sends arrives under its own name, the served tier too.
    """
    usage = from_openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {
                "cached_tokens": 40,
                "cache_write_tokens": 20,
                "audio_tokens": 10,
            },
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 5},
        },
        reasoning_in_output=True,
        service_tier="priority",
    )

    assert usage == Usage(
        input_tokens=100,
        output_tokens=50,
        cached_input_tokens=40,
        cache_write_input_tokens=20,
        audio_input_tokens=10,
        reasoning_tokens=30,
        audio_output_tokens=5,
        service_tier="priority",
    )


def test_litellms_writes_to_the_cache() -> None:
    """
    Of 20 tokens written, 5 for an hour, 15 are for the short time: none counts twice.
    """
    usage = from_openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 0,
            "prompt_tokens_details": {
                "cached_tokens": 40,
                "cache_write_tokens": 20,
                "cache_creation_token_details": {
                    "ephemeral_5m_input_tokens": 15,
                    "ephemeral_1h_input_tokens": 5,
                },
            },
        },
        reasoning_in_output=True,
    )

    assert usage is not None
    assert (usage.cache_write_input_tokens, usage.cache_write_1h_input_tokens) == (15, 5)
    assert split(usage).text_input_tokens == 40


@pytest.mark.parametrize(("told", "expected"), [("us", "us"), (None, None), (1, None)])
def test_where_the_model_ran(told: object, expected: str | None) -> None:
    """
    Anthropic's word for it, which LiteLLM hands on, is read; what is no text is none.
    """
    usage = from_openai({"prompt_tokens": 1, "inference_geo": told}, reasoning_in_output=True)

    assert usage is not None
    assert usage.region == expected


def test_reasoning_beside_the_output_is_added() -> None:
    """
    Where a provider counts 30 reasoning tokens beside 20 of output, the output is 50.
    """
    usage = from_openai(
        {
            "prompt_tokens": 7,
            "completion_tokens": 20,
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        reasoning_in_output=False,
    )

    assert usage == Usage(input_tokens=7, output_tokens=50, reasoning_tokens=30)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "usage",
        {},
        {"prompt_tokens": None},
        {"prompt_tokens": "3"},
        {"prompt_tokens": 3.0},
        {"prompt_tokens": True},
        {"prompt_tokens": -1},
    ],
)
def test_what_is_no_usage(usage: object) -> None:
    """
    Without a whole number of prompt tokens there is no usage, rather than one of zero.
    """
    assert from_openai(usage, reasoning_in_output=True) is None


def test_zero_is_a_count() -> None:
    """
    A usage of zero tokens is a usage; details that are null or nonsense add nothing.
    """
    usage = from_openai(
        {
            "prompt_tokens": 0,
            "prompt_tokens_details": None,
            "completion_tokens_details": {"reasoning_tokens": "many"},
        },
        reasoning_in_output=True,
        service_tier=1,
    )

    assert usage == Usage(input_tokens=0, output_tokens=0)


def test_split_takes_the_parts_out() -> None:
    """
    Of 100 tokens in and 50 out the named parts are taken out, and plain text is the rest.
    """
    usage = Usage(
        input_tokens=100,
        output_tokens=50,
        cached_input_tokens=40,
        cache_write_input_tokens=20,
        cache_write_1h_input_tokens=5,
        audio_input_tokens=10,
        reasoning_tokens=30,
        audio_output_tokens=5,
    )

    assert split(usage) == UsageParts(
        text_input_tokens=25,
        cached_input_tokens=40,
        cache_write_input_tokens=20,
        cache_write_1h_input_tokens=5,
        audio_input_tokens=10,
        text_output_tokens=15,
        reasoning_tokens=30,
        audio_output_tokens=5,
    )


@given(usage=USAGES)
def test_split_loses_no_token(usage: Usage) -> None:
    """
    The disjoint parts add up to the whole, or to the parts where those exceed it.
    """
    parts = split(usage)
    input_parts = (
        usage.cached_input_tokens
        + usage.cache_write_input_tokens
        + usage.cache_write_1h_input_tokens
        + usage.audio_input_tokens
    )
    output_parts = usage.reasoning_tokens + usage.audio_output_tokens

    assert parts.text_input_tokens + input_parts == max(usage.input_tokens, input_parts)
    assert parts.text_output_tokens + output_parts == max(usage.output_tokens, output_parts)
    assert min(parts.text_input_tokens, parts.text_output_tokens) >= 0


@pytest.mark.parametrize(("length", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_counts_a_token_for_every_four_bytes_begun(length: int, tokens: int) -> None:
    """
    An answer without usage is counted at four bytes a token, rounded up.
    """
    assert counted_usage(input_bytes=length, output_bytes=length) == Usage(
        input_tokens=tokens, output_tokens=tokens
    )


def test_output_is_counted_on_top_of_what_was_reported() -> None:
    """
    5 bytes are 2 tokens beside the 10 that were reported; the parts stay what they were.
    """
    usage = Usage(input_tokens=3, output_tokens=10, cached_input_tokens=2, reasoning_tokens=4)

    assert with_output(usage, 5, 1) == replace(usage, output_tokens=12)
    assert with_output(usage, 0, 0) == usage


def test_each_piece_of_output_is_a_token_at_least() -> None:
    """
    30 digits that come in 10 pieces are 10 tokens, though their bytes would be 8; in 2 pieces, 8.
    """
    usage = Usage(input_tokens=3, output_tokens=0)

    assert with_output(usage, 30, 10).output_tokens == 10
    assert with_output(usage, 30, 2).output_tokens == 8


@given(usage=USAGES)
def test_an_input_has_no_output(usage: Usage) -> None:
    """
    Without its output, a usage keeps every part of its input and nothing else.
    """
    parts = split(without_output(usage))

    assert parts == replace(
        split(usage), text_output_tokens=0, reasoning_tokens=0, audio_output_tokens=0
    )


def test_agrees_with_recorded_answers() -> None:
    """
    For every recorded body in OpenAI's form one way of reading finds the counts that we find.
    """
    if not RECORDED.exists():
        missing("recorded usages", f"{RECORDED.name} is not beside the repository")
    records = [
        record
        for record in json.loads(RECORDED.read_text())
        if isinstance(record["body"].get("usage"), dict)
        and "prompt_tokens" in record["body"]["usage"]
        and "completion_tokens" in record["body"]["usage"]
    ]

    disagreeing = [record["body"] for record in records if not _is_read_alike(record)]

    assert len(records) > 100
    assert disagreeing == []


# Any: a record is what was recorded, in the form that its README describes.
def _is_read_alike(record: dict[str, Any]) -> bool:
    ours = [
        from_openai(record["body"]["usage"], reasoning_in_output=included)
        for included in (True, False)
    ]
    theirs = [
        (
            each["usage"].get("input_tokens"),
            each["usage"].get("output_tokens"),
            each["usage"].get("cache_read_tokens", 0),
        )
        for each in record["extracted"]
    ]
    return any(
        (each.input_tokens, each.output_tokens, each.cached_input_tokens) in theirs
        for each in ours
        if each is not None
    )


@pytest.mark.parametrize(("tokens", "is_believed"), [(2**31 - 1, True), (2**31, False)])
def test_absurd_counts_are_no_counts(tokens: int, *, is_believed: bool) -> None:
    """
    A count that no counter could hold the charge of is treated as if none had come.
    """
    usage = from_openai({"prompt_tokens": tokens, "completion_tokens": 1}, reasoning_in_output=True)

    assert (usage is not None) is is_believed


def test_a_counted_answer_stays_within_its_cap() -> None:
    """
    500 bytes are counted as 125 tokens; of an answer capped at 100 there were 100 at most.
    """
    counted = counted_usage(input_bytes=40, output_bytes=500)

    assert (counted.output_tokens, within_cap(counted, 100).output_tokens) == (125, 100)
    assert within_cap(counted, 126) == counted
