"""
Streams: which events go out unchanged, and which one carries the cost.
"""

import json
from collections.abc import Mapping
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.endpoints import chat
from relay_middleware.core.sse import EventStreamDecoder
from relay_middleware.core.streams import StreamAnnotator
from relay_middleware.core.usage import Usage, UsageSource

ADDED = b'"cost_cents":0.5,"relay":{"attempts":1}'
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def annotator(*, wants_usage_chunk: bool = False) -> StreamAnnotator:
    return StreamAnnotator(
        wants_usage_chunk=wants_usage_chunk,
        usage_of=partial(chat.usage_of, reasoning_in_output=True),
        output_sizes=chat.output_sizes,
        decode_json=json.loads,
        encode_json=lambda value: json.dumps(value, separators=(",", ":")).encode(),
    )


def content(text: str, **more: object) -> bytes:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return event({"id": "c1", "choices": choices, "usage": None, **more})


def finish(index: int = 0, **more: object) -> bytes:
    choices = [{"index": index, "delta": {}, "finish_reason": "stop"}]
    return event({"id": "c1", "choices": choices, **more})


def usage_chunk(**counts: int) -> bytes:
    return event({"id": "c1", "choices": [], "usage": {**USAGE, **counts}})


def event(value: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def run(
    subject: StreamAnnotator, *blocks: bytes, error: Mapping[str, object] | None = None
) -> list[bytes]:
    """Feed *blocks* one by one; return what goes out at each, and at the end."""
    out = [subject.feed(EventStreamDecoder().feed(block)) for block in blocks]
    shown = subject.usage_object or {"prompt_tokens": 1}
    return [*out, subject.finish(usage=shown, added=ADDED, error=error)]


def decoded(block: bytes) -> list[object]:
    datas = [event.data for event in EventStreamDecoder().feed(block)]
    return [json.loads(data) if data != b"[DONE]" else "[DONE]" for data in datas if data]


def test_content_passes_at_once_and_unchanged() -> None:
    """
    Content goes out as the bytes it was, also with a null usage, comments too.
    """
    blocks = [b": hello\r\n\r\n", content("a"), content('"usage": {"finish_reason": "stop"')]

    out = run(annotator(), *blocks)

    assert out[:3] == blocks


def test_usage_goes_into_the_finish_chunk_of_a_client_that_did_not_ask() -> None:
    """
    Such a client gets no extra chunk: usage and cost come in the one that finishes.
    """
    out = run(annotator(), content("a"), finish(), usage_chunk(), DONE)

    assert out[1:4] == [b"", b"", b""]
    last, done = decoded(out[4])
    assert isinstance(last, dict)
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"] == USAGE
    assert last["cost_cents"] == 0.5
    assert last["relay"] == {"attempts": 1}
    assert done == "[DONE]"


def test_usage_chunk_is_kept_for_a_client_that_asked() -> None:
    """
    Such a client gets the finish chunk as it was, then OpenAI's usage chunk with the cost in it.
    """
    out = run(annotator(wants_usage_chunk=True), finish(), usage_chunk(), DONE)

    assert out[:2] == [b"", finish()]
    last, _ = decoded(out[3])
    assert isinstance(last, dict)
    assert last["choices"] == []
    assert last["usage"] == USAGE
    assert last["cost_cents"] == 0.5


@pytest.mark.parametrize("wants", [False, True])
def test_later_usage_replaces_the_earlier(*, wants: bool) -> None:
    """
    Of two usage chunks the last one counts, and the client sees one of them.
    """
    subject = annotator(wants_usage_chunk=wants)

    out = run(subject, finish(), usage_chunk(completion_tokens=1), usage_chunk(), DONE)

    assert subject.usage is not None
    assert subject.usage.output_tokens == 2
    seen = [item for block in out for item in decoded(block) if isinstance(item, dict)]
    assert [item["usage"] for item in seen if item.get("usage")] == [USAGE]


def test_usage_beside_choices_counts() -> None:
    """
    A usage in a chunk that has choices is a usage (LESSONS E: it was once ignored, and billed 4x).
    """
    subject = annotator()

    out = run(subject, content("a"), finish(usage=USAGE), DONE)

    assert subject.usage is not None
    assert subject.usage.input_tokens == 3
    assert out[1] == b""
    last, _ = decoded(out[3])
    assert isinstance(last, dict)
    assert last["usage"] == USAGE


def test_cumulative_usage_in_every_chunk_delays_by_one() -> None:
    """
    A provider that repeats its usage in each chunk loses none of them: each goes out at the next.
    """
    first, second = content("a", usage=USAGE), content("b", usage=USAGE)

    out = run(annotator(), first, second, DONE)

    assert out[:2] == [b"", first]
    assert b'"b"' in out[3]


def test_first_of_two_finishes_passes() -> None:
    """
    With n=2 the first choice's finish goes out as it was, and the last one carries the cost.
    """
    out = run(annotator(), finish(0), finish(1), usage_chunk(), DONE)

    assert out[1] == finish(0)
    last, _ = decoded(out[4])
    assert isinstance(last, dict)
    assert last["choices"][0]["index"] == 1


def test_content_after_a_finish_releases_it() -> None:
    """
    If content follows, the held chunk goes out before it, in the provider's order.
    """
    out = run(annotator(), finish(), content("more"), DONE)

    assert out[1] == finish() + content("more")


def test_a_stream_without_finish_gets_an_empty_chunk() -> None:
    """
    Where nothing was held, the cost comes in a chunk that adds nothing but has a choice.
    """
    out = run(annotator(), content("a"), usage_chunk(), DONE)

    last, _ = decoded(out[3])
    assert isinstance(last, dict)
    assert last["id"] == "c1"
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": None}]
    assert last["usage"] == USAGE


@pytest.mark.parametrize("last", [b"data: no json\n\n", b"data: [1]\n\n"], ids=["text", "list"])
def test_an_empty_chunk_needs_nothing_of_the_provider(last: bytes) -> None:
    """
    What is no JSON object passes through, and the cost is told all the same.
    """
    out = run(annotator(), last, DONE)

    assert out[0] == last
    assert b'"cost_cents":0.5' in out[2]


@pytest.mark.parametrize(
    "bad", [b'data: {"error": {"message"\n\n', b'data: ["error", {"error": "x"}]\n\n']
)
def test_notable_words_in_what_is_no_object_pass(bad: bytes) -> None:
    """
    Text that only looks like an error event goes out as it came.
    """
    subject = annotator()

    assert run(subject, bad)[0] == bad
    assert not subject.is_broken


def test_error_event_breaks_the_stream_and_is_not_passed_on() -> None:
    """
    A provider's error stays inside; the client gets ours, with usage and cost, before [DONE].
    """
    subject = annotator()
    theirs = event({"error": {"message": "host 10.0.0.1 says sk-secret"}})

    out = run(subject, finish(), theirs, content("late"), error={"error": {"code": "ours"}})

    assert subject.is_broken
    assert out[1:3] == [b"", b""]
    assert out[3].startswith(finish())
    _, last, done = decoded(out[3])
    assert isinstance(last, dict)
    assert last["error"] == {"code": "ours"}
    assert {"usage", "cost_cents", "relay"} < last.keys()
    assert done == "[DONE]"
    assert b"sk-secret" not in b"".join(out)


def test_annotation_of_another_relay_is_replaced() -> None:
    """
    Behind another Relay there is one cost in the event: ours.
    """
    out = run(annotator(), finish(usage=USAGE, cost_cents=9, relay={"attempts": 7}), DONE)

    assert out[2].count(b'"cost_cents"') == 1
    last, _ = decoded(out[2])
    assert isinstance(last, dict)
    assert last["cost_cents"] == 0.5


def test_end_is_known() -> None:
    """
    `is_finished` follows a finish, `is_ended` follows [DONE]; events after it are ignored.
    """
    subject = annotator()

    subject.feed(EventStreamDecoder().feed(finish()))
    assert (subject.is_finished, subject.is_ended) == (True, False)
    out = subject.feed(EventStreamDecoder().feed(DONE + content("late")))

    assert (out, subject.is_ended) == (b"", True)


def consumed(*blocks: bytes) -> tuple[Usage, UsageSource]:
    """What an answer of *blocks* has used, whose input was counted as 7 tokens."""
    subject = annotator()
    for block in blocks:
        subject.feed(EventStreamDecoder().feed(block))
    return subject.usage_so_far(lambda: Usage(input_tokens=7, output_tokens=0))


def test_usage_that_nobody_reported_is_counted() -> None:
    """
    8 bytes of text are 2 tokens, beside the input as it was counted before.
    """
    assert consumed(content("12345678")) == (
        Usage(input_tokens=7, output_tokens=2),
        UsageSource.COUNTED,
    )


def test_usage_that_was_reported_last_counts() -> None:
    """
    3 and 2 tokens reported after all text are what was used, whatever was counted.
    """
    reported = (Usage(input_tokens=3, output_tokens=2), UsageSource.PROVIDER)

    assert consumed(content("12345678"), finish(), usage_chunk(), DONE) == reported
    assert consumed(content("12345678", usage=USAGE)) == reported


def test_text_after_the_last_report_is_counted_beside_it() -> None:
    """
    A provider that reports as it goes had said 2 tokens when 5 bytes more came: 2 more, so 4.
    """
    early = content("12345678", usage=USAGE)

    assert consumed(early, content("12345")) == (
        Usage(input_tokens=3, output_tokens=4),
        UsageSource.COUNTED,
    )
    assert consumed(usage_chunk(completion_tokens=0), content("1"))[0].output_tokens == 1
    assert consumed(early, content("12345"), usage_chunk(completion_tokens=3), DONE) == (
        Usage(input_tokens=3, output_tokens=3),
        UsageSource.PROVIDER,
    )


def test_each_piece_is_a_token_at_least() -> None:
    """
    Four pieces of three digits are four tokens, not the three of their 12 bytes; an empty piece, as
    the role comes in, is none; and after a report those count that came since.
    """
    digits = [content("123")] * 4

    assert consumed(content(""), *digits)[0].output_tokens == 4
    assert consumed(content("123", usage=USAGE), *digits)[0].output_tokens == 2 + 4


CALLED = {"tool_calls": [{"index": 0, "function": {"arguments": '{"'}}]}


def test_each_piece_of_a_call_is_a_token_at_least() -> None:
    """
    Three pieces of two bytes of a tool's arguments are three tokens.
    """
    piece = event({"id": "c1", "choices": [{"index": 0, "delta": CALLED}]})

    assert consumed(piece, piece, piece)[0].output_tokens == 3


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([content("a"), finish(), usage_chunk(), DONE], True),
        ([content("a"), finish(), usage_chunk()], True),
        ([content("a"), usage_chunk(), DONE], True),
        ([content("a"), finish(usage=USAGE)], True),
        # A report on the way is not the last.
        ([content("a", usage=USAGE)], False),
        ([content("a"), usage_chunk(), event({"error": {"message": "x"}})], False),
        ([finish(), usage_chunk(), content("a")], False),
        ([content("a"), finish(), DONE], False),
        ([], False),
    ],
)
def test_when_all_is_reported(blocks: list[bytes], *, expected: bool) -> None:
    """
    All of an answer is reported when it has ended well, with a usage, and without a text since.
    """
    subject = annotator()

    run(subject, *blocks)

    assert subject.is_reported is expected


def test_a_usage_beside_content_is_no_end() -> None:
    """
    A stream that reports as it goes and then breaks off is not taken for a whole one.
    """
    subject = annotator()

    run(subject, content("a", usage=USAGE))

    assert not subject.is_finished


@given(st.lists(st.sampled_from(["content", "finish", "usage", "comment"]), max_size=12))
def test_nothing_but_usage_chunks_is_lost(kinds: list[str]) -> None:
    """
    Whatever the order, each content, comment and all but the last finish go out unchanged.
    """
    make = {"finish": finish, "usage": usage_chunk, "comment": lambda: b": c\n\n"}
    blocks = [make[kind]() if kind in make else content(str(i)) for i, kind in enumerate(kinds)]

    out = b"".join(run(annotator(), *blocks, DONE))

    for kind, block in zip(kinds, blocks, strict=True):
        if kind in {"content", "comment"}:
            assert block in out
    assert out.count(b'"cost_cents"') == 1
    assert out.count(b'"stop"') == kinds.count("finish")
    assert out.endswith(b"data: [DONE]\n\n")
