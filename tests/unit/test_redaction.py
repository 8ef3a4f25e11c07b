"""
Redaction: where a request went, and with which key, stays inside.
"""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.upstream.redaction import MASK, MAX_MESSAGE_CHARACTERS, redact

WORDS = st.text(alphabet=string.ascii_letters + " .,'", max_size=60)
TOKEN = st.text(alphabet=string.ascii_letters + string.digits, min_size=20, max_size=48)
LABEL = st.text(alphabet=string.ascii_lowercase + string.digits, min_size=1, max_size=12)
NUMBER = st.integers(min_value=0, max_value=255)

SECRETS = st.one_of(
    TOKEN.map("sk-{}".format),
    TOKEN.map("sk-proj-{}".format),
    TOKEN.map("xai-{}".format),
    TOKEN.map("org-{}".format),
    TOKEN.map("Bearer {}".format),
    LABEL.map("https://{}.openai.azure.com/v1".format),
    LABEL.map("http://{}/v1/chat".format),
    LABEL.map("{}.internal".format),
    LABEL.map("{}.svc.cluster.local:8000".format),
    LABEL.map("ops@{}.example".format),
    st.tuples(NUMBER, NUMBER, NUMBER, NUMBER).map(lambda four: ".".join(map(str, four))),
)


@given(before=WORDS, secret=SECRETS, after=WORDS)
def test_no_secret_is_shown(before: str, secret: str, after: str) -> None:
    """
    Wherever a key, an address or a name of an account stands in a message, it is masked.
    """
    shown = redact(f"{before} {secret} {after}")

    assert secret not in shown
    assert MASK in shown


@given(text=st.text(max_size=6000), secret=st.text(min_size=1, max_size=20))
def test_a_known_secret_is_never_shown(text: str, secret: str) -> None:
    """
    What is known to be secret is removed whatever it looks like.
    """
    shown = redact(f"{secret} {text} {secret}", secrets=[secret])

    assert secret not in shown.replace(MASK, "")


@given(text=st.text(max_size=10_000))
def test_what_is_shown_is_bounded(text: str) -> None:
    """
    No message is longer than 500 characters.
    """
    assert len(redact(text)) <= MAX_MESSAGE_CHARACTERS


@pytest.mark.parametrize(
    "message",
    [
        "Invalid value: 'tool'. Supported values are: 'system' and 'user'.",
        "Missing required parameter: 'messages[0].content'.",
        "'max_tokens' is not supported with gpt-5.4-mini-2026-03-17; use 'max_completion_tokens'.",
        "This model's maximum context length is 128000 tokens, you asked for 130021.",
        "Invalid schema for response_format.json_schema.schema: 'type' is missing",
        "temperature must be between 0.0 and 2.0, is 2.5",
    ],
)
def test_a_reason_is_left_as_it_is(message: str) -> None:
    """
    What a client can mend, it reads: fields, models and numbers are no secrets.
    """
    assert redact(message) == message


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Incorrect API key provided: sk-abc1****xyz9.", "Incorrect API key provided: [redacted]"),
        ("cannot connect to vllm-1:8000 now", "cannot connect to [redacted] now"),
        ("at 10.0.0.12:443 and fe80::1ff:fe23:4567:890a", "at [redacted] and [redacted]"),
        ("for organization org-AbC123def", "for organization [redacted]"),
        ("see https://platform.openai.com/docs.", "see [redacted]"),
        ("try localhost", "try [redacted]"),
    ],
)
def test_examples(message: str, shown: str) -> None:
    """
    Messages as providers write them.
    """
    assert redact(message) == shown


def test_a_key_that_the_end_cuts_is_not_shown() -> None:
    """
    Only the beginning of a long message is read; a word that this cuts in two is left out.
    """
    filler = "http://a " * 453  # 4,077 characters, shown as 5,436

    shown = redact(f"{filler}sk-{'a' * 100}")

    assert "sk-" not in redact(f"{'x' * 4000} sk-{'a' * 100}")
    assert "sk-" not in shown
