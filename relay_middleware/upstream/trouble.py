"""
Trouble: what LiteLLM raised instead of an answer, and what it means for the request.

LiteLLM raises classes of its own with a status, and whatever its translation stumbles over. Its
texts hold addresses, keys and prompts: only what the provider said is taken out of them, redacted.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from relay_middleware.core.deployments import Deployment
from relay_middleware.ports.providers import RefusedAnswer
from relay_middleware.upstream.failures import (
    CONNECTION_REFUSED,
    TIMED_OUT,
    DeploymentFailedError,
    retry_after_s,
)
from relay_middleware.upstream.redaction import redact

_BAD_REQUEST = 400
_REFUSALS = frozenset({_BAD_REQUEST, 413, 422})

_OPERATORS = frozenset({"PaymentRequiredError"})
"""LiteLLM's kinds of 400 that no client can mend: the operator's account is empty."""

_CODES: Mapping[str, str] = {
    "ContextWindowExceededError": "context_length_exceeded",
    "ContentPolicyViolationError": "content_policy_violation",
    "ImageFetchError": "image_not_fetched",
    "SchemaTooLargeError": "schema_too_large",
}
"""OpenAI's codes for what LiteLLM tells by the class, and ours."""

_MESSAGES: Mapping[str, str] = {
    "ImageFetchError": (
        "Images cannot be fetched from an address for this model; send them as data: in base64."
    ),
    "SchemaTooLargeError": (
        "The schemas of tools, functions and response_format are too large for this model once"
        " each $ref is replaced by what it points to; use fewer references, or none that lead back"
        " to where they stand."
    ),
}
"""What a client is told instead of LiteLLM's text."""

_UNREADABLE = (
    "The request could not be put into the form that the model's provider takes: look at its"
    " messages, tools and tool calls."
)
_REFUSED = "The provider refused the request as wrong."

_STUMBLES = (LookupError, TypeError, AttributeError, ValueError, AssertionError)
"""What Python raises where a translation meets a form that it did not expect."""

_TRANSLATING = re.compile(
    r"litellm\.(?:litellm_core_utils\.prompt_templates\.|llms\..*transformation$)"
)
"""LiteLLM's modules that do nothing but translate. They raise a bare `Exception` for a message that
they have no form for; elsewhere the same may be about the operator's credentials."""


class ImageFetchError(Exception):
    """A client names an address that LiteLLM would call; by the name of LiteLLM's own."""

    status_code = _BAD_REQUEST


class SchemaTooLargeError(Exception):
    """A client's schemas cannot be translated within bounds."""

    status_code = _BAD_REQUEST


@dataclass(slots=True, kw_only=True)
class Dispatch:
    """
    One translated call, as far as trouble with it must be judged.

    Attributes:
        is_sent: Whether LiteLLM was done with the translation, and the provider was called.
    """

    deployment: Deployment
    now: Callable[[], datetime]
    wants_complaint: bool
    is_sent: bool = field(default=False)

    def note(self, _: object) -> None:
        """Take note of LiteLLM's own note that the provider is called, or has answered."""
        self.is_sent = True


def refusal_of(error: BaseException, dispatch: Dispatch) -> RefusedAnswer | None:
    """
    Return the refusal that *error* is, where another provider would say the same; else None.

    A request that no translation fits is one: it must not count against the deployment, or a client
    could have a healthy one left out.
    """
    kind = type(error).__name__
    status_code = _status_of(error)
    if status_code in _REFUSALS and kind not in _OPERATORS:
        message = _MESSAGES.get(kind) or _said(error, dispatch.deployment)
        # Without headers it was LiteLLM who refused, before the provider was asked.
        fallback = _UNREADABLE if _headers_of(error) is None else _REFUSED
        return _refused(dispatch, status_code, message or fallback, _CODES.get(kind))
    if not dispatch.is_sent and _is_stumble(_origin(error)):
        return _refused(dispatch, _BAD_REQUEST, _UNREADABLE, "untranslatable")
    return None


def failure_of(error: BaseException, dispatch: Dispatch) -> DeploymentFailedError:
    """Return the failure that *error* is, for the Router."""
    headers = _headers_of(error)
    status_code = _status_of(error)
    has_timed_out = type(error).__name__ == "Timeout" or isinstance(error, TimeoutError)
    if has_timed_out:
        status_code = TIMED_OUT
    return DeploymentFailedError(
        dispatch.deployment.deployment_id,
        status_code or CONNECTION_REFUSED,
        # Where no headers came, LiteLLM made the status up.
        http_status=None if headers is None or has_timed_out else status_code,
        retry_after_s=retry_after_s((headers or {}).get("retry-after"), dispatch.now()),
        complaint=_complaint(error, dispatch) if dispatch.wants_complaint else None,
    )


def _refused(dispatch: Dispatch, status_code: int, message: str, code: str | None) -> RefusedAnswer:
    return RefusedAnswer(
        deployment=dispatch.deployment,
        status_code=status_code,
        message=message,
        code=code,
        param=None,
    )


def _status_of(error: BaseException) -> int:
    status_code = getattr(error, "status_code", None)
    if type(error).__name__ in _OPERATORS:
        return 402
    return status_code if isinstance(status_code, int) else 0


def _headers_of(error: BaseException) -> Mapping[str, str] | None:
    headers = getattr(error, "litellm_response_headers", None)
    return {str(name).lower(): str(value) for name, value in headers.items()} if headers else None


def _origin(error: BaseException) -> BaseException:
    """What was raised first: LiteLLM wraps it, twice at times."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _is_stumble(origin: BaseException) -> bool:
    if type(origin) is not Exception:
        return isinstance(origin, _STUMBLES)
    trace = origin.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__"))
    return _TRANSLATING.match(raised_in) is not None


def _complaint(error: BaseException, dispatch: Dispatch) -> str:
    # Where the provider said nothing, the kind tells the operator most: `Timeout`, `KeyError`.
    return _said(error, dispatch.deployment) or type(_origin(error)).__name__


def _said(error: BaseException, deployment: Deployment) -> str | None:
    """The provider's own message, which LiteLLM's text contains as JSON."""
    text = str(error)
    start = text.find("{")
    try:
        answer, _ = json.JSONDecoder().raw_decode(text, start) if start >= 0 else (None, 0)
    except ValueError:
        return None
    told = answer.get("error", answer) if isinstance(answer, dict) else None
    message = told.get("message") if isinstance(told, dict) else None
    return redact(message, secrets=_secrets(deployment)) if isinstance(message, str) else None


def _secrets(deployment: Deployment) -> list[str]:
    host = urlsplit(deployment.api_base or "").netloc
    credentials = (str(value) for value in deployment.credentials.values())
    return [secret for secret in (deployment.api_key, host, *credentials) if secret]
