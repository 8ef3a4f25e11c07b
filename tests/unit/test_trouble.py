"""
What LiteLLM's exceptions mean for a request.
"""

from collections.abc import Mapping

import pytest
from fixtures.clock import FakeClock

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.upstream.trouble import Dispatch, failure_of, refusal_of

SECRET = "aws-secret-value"
DEPLOYMENT = Deployment(
    deployment_id=DeploymentId("smart#1"),
    model="smart",
    provider="anthropic",
    deployment_model="claude",
    api_base="http://10.1.2.3:99/x",
    api_key="sk-upstream-key",
    credentials={"aws_secret_access_key": SECRET},
)


def dispatch(*, is_sent: bool = True, wants_complaint: bool = False) -> Dispatch:
    return Dispatch(
        deployment=DEPLOYMENT,
        now=FakeClock().now,
        wants_complaint=wants_complaint,
        is_sent=is_sent,
    )


class LitellmError(Exception):
    """An exception as LiteLLM's are: with a status, and the provider's headers if it answered."""

    def __init__(
        self, text: str, status_code: int, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status_code = status_code
        self.litellm_response_headers = headers


def kind(name: str, status_code: int, text: str = "") -> LitellmError:
    """Make an exception whose class has that name: it is what is looked at."""
    made = type(name, (LitellmError,), {})(text, status_code, {"x": "y"})
    assert isinstance(made, LitellmError)
    return made


def test_a_refusal_says_what_the_provider_said() -> None:
    """
    The message inside LiteLLM's text is shown, without hosts, keys and other credentials.
    """
    text = (
        "litellm.BadRequestError: AnthropicException - b'{"
        f'"type":"error","error":{{"message":"max_tokens: wrong at 10.1.2.3:99 {SECRET}"}}'
        "}'. Handle with litellm"
    )

    refused = refusal_of(LitellmError(text, 400, {"a": "b"}), dispatch())

    assert refused is not None
    assert (refused.status_code, refused.message) == (
        400,
        "max_tokens: wrong at [redacted] [redacted]",
    )


@pytest.mark.parametrize(
    ("text", "headers", "words"),
    [
        ("no JSON here", {"a": "b"}, "The provider refused"),
        ("{not JSON", {"a": "b"}, "The provider refused"),
        ('["{}", 3]', {"a": "b"}, "The provider refused"),
        ("Received Messages=[{'role': 'secret prompt'}]", None, "could not be put into the form"),
    ],
)
def test_texts_of_litellm_are_not_shown(
    text: str, headers: Mapping[str, str] | None, words: str
) -> None:
    """
    Where the provider gave no reason the client gets ours: LiteLLM's holds prompts and addresses.
    """
    refused = refusal_of(LitellmError(text, 400, headers), dispatch())

    assert refused is not None
    assert refused.message.startswith((words, "The request " + words))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ContextWindowExceededError", "context_length_exceeded"),
        ("ContentPolicyViolationError", "content_policy_violation"),
        ("ImageFetchError", "image_not_fetched"),
        ("BadRequestError", None),
    ],
)
def test_kinds_have_openais_codes(name: str, code: str | None) -> None:
    """
    What LiteLLM tells by the class, a client reads in `code`.
    """
    refused = refusal_of(kind(name, 400), dispatch())

    assert refused is not None
    assert refused.code == code


def test_an_empty_account_is_no_fault_of_the_request() -> None:
    """
    A 402 that LiteLLM calls a bad request is a failure: another deployment may be paid for.
    """
    error = kind("PaymentRequiredError", 400)

    assert refusal_of(error, dispatch()) is None
    assert failure_of(error, dispatch()).status_code == 402


@pytest.mark.parametrize(
    ("is_sent", "is_refused"), [(False, True), (True, False)], ids=["before", "after"]
)
def test_a_stumble(*, is_sent: bool, is_refused: bool) -> None:
    """
    What no translation fits is the request's fault; after the provider was called it is not.
    """
    error = LitellmError("wrapped", 500)
    error.__context__ = KeyError("function")

    assert (refusal_of(error, dispatch(is_sent=is_sent)) is not None) is is_refused


def test_a_missing_library_is_no_fault_of_the_request() -> None:
    """
    What is missing here leaves the deployment out, and names itself to the operator.
    """
    failed = failure_of(ImportError("boto3"), dispatch(is_sent=False, wants_complaint=True))

    assert refusal_of(ImportError("boto3"), dispatch(is_sent=False)) is None
    assert (failed.status_code, failed.http_status, failed.complaint) == (503, None, "ImportError")


@pytest.mark.parametrize(
    ("status_code", "headers", "http_status", "retry_after_s"),
    [
        (429, {"Retry-After": "7"}, 429, 7),
        (500, None, None, None),
        (529, {"x": "y"}, 529, None),
    ],
)
def test_a_failure_keeps_status_and_wait(
    status_code: int,
    headers: Mapping[str, str] | None,
    http_status: int | None,
    retry_after_s: int | None,
) -> None:
    """
    The provider's status and `Retry-After` reach the Router; a status that LiteLLM made up is none.
    """
    failed = failure_of(LitellmError("x", status_code, headers), dispatch())

    assert (failed.status_code, failed.http_status) == (status_code, http_status)
    assert (failed.retry_after_s, failed.complaint) == (retry_after_s, None)


def test_a_time_out_is_told_apart() -> None:
    """
    LiteLLM's `Timeout` is no answer in time, not the provider's 408.
    """
    assert failure_of(kind("Timeout", 408), dispatch()).has_timed_out
    assert not failure_of(LitellmError("x", 408, {"a": "b"}), dispatch()).has_timed_out
