"""
Refusals: every way in which Relay says no, in the terms of OpenAI's error envelope.

One function per code, here and in `limit_refusals`, so that the table of errors in the
documentation is the list of their functions. A message names the value and the remedy; it never
repeats a provider's text, host or key.
"""

import math
from collections.abc import Mapping
from dataclasses import field

from relay_middleware.core.values import dataclass


class RelayError(Exception):
    """Base of all errors that Relay raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """
    Why a request is refused.

    Attributes:
        status_code: HTTP status.
        code: One word for programs.
        message: For people.
        type: OpenAI's class of error.
        param: The request's member that is at fault, or None.
        metadata: Further facts (numbers of a limit), as JSON values.
        headers: Further response headers, lower case.
    """

    status_code: int
    code: str
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def envelope(self) -> dict[str, object]:
        """Return the body: OpenAI's four keys, and ours beside them where there are any."""
        error: dict[str, object] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        if self.metadata:
            error["metadata"] = dict(self.metadata)
        return {"error": error}


class RefusedError(RelayError):
    """The client's request is refused; `refusal` says why and what the client is told."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class CustomerRequiredError(RefusedError):
    """400: nobody says for which customer a request or a call is."""


DO_NOT_RETRY: Mapping[str, str] = {"x-should-retry": "false"}
"""openai-python repeats a 429 unless told not to; this header tells it (its source, 2.54)."""


def whole_s(seconds: float) -> int:
    """Return a wait in whole seconds, rounded up: earlier would be refused again."""
    return max(1, math.ceil(seconds))


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to try again."""
    return {"retry-after": str(whole_s(seconds))}


def invalid_request(
    message: str, *, param: str | None = None, code: str = "invalid_value"
) -> Refusal:
    """400: the request is wrong."""
    return Refusal(status_code=400, code=code, message=message, param=param)


def customer_required(header: str) -> Refusal:
    """400: the key may name customers, and the request names none."""
    return Refusal(
        status_code=400,
        code="customer_required",
        message=f"No customer is named. Send the customer's id in the header {header}.",
    )


def customer_required_of_host(header: str) -> Refusal:
    """400: a host application makes a call, and nobody says for whom."""
    return Refusal(
        status_code=400,
        code="customer_required",
        message=(
            "No customer is named for this call. Give RelayMiddleware customer=, or send the "
            f"header {header} with a Relay key that may name customers."
        ),
    )


def invalid_customer_id(reason: str) -> Refusal:
    """400: what stands where a customer id should is none."""
    return Refusal(
        status_code=400,
        code="invalid_customer_id",
        message=f"{reason} A customer id has 1 to 255 characters of A-Z a-z 0-9 . _ : @ | + = / -",
    )


def invalid_api_key(*, is_missing: bool) -> Refusal:
    """401: no key, or none that is in force."""
    if is_missing:
        message = "No API key. Send it as 'Authorization: Bearer mr_sk_...'."
    else:
        message = "This API key is unknown or revoked. Create one with 'relay keys create'."
    return Refusal(
        status_code=401,
        code="invalid_api_key",
        message=message,
        headers={"www-authenticate": "Bearer"},
    )


def customer_forbidden(key_customer: str | None) -> Refusal:
    """403: this key may not act for the customer that is named."""
    if key_customer is None:
        message = "This key manages; it may not make requests for customers."
    else:
        message = "This key is bound to one customer and may not name another."
    return Refusal(status_code=403, code="customer_forbidden", message=message)


def unknown_customer(customer_id: str) -> Refusal:
    """403: there is no such customer, and none is created by a request."""
    return Refusal(
        status_code=403,
        code="unknown_customer",
        message=(
            f"There is no customer {shown(customer_id)}. Create it with 'relay customers set-tier'."
        ),
    )


def customer_blocked(customer_id: str) -> Refusal:
    """403: the operator has blocked the customer."""
    return Refusal(
        status_code=403,
        code="customer_blocked",
        message=f"The customer {shown(customer_id)} is blocked.",
        headers=DO_NOT_RETRY,
    )


def model_not_allowed(model: str, tier: str) -> Refusal:
    """403: the model exists, the customer's tier does not include it."""
    return Refusal(
        status_code=403,
        code="model_not_allowed",
        message=(
            f"The tier {tier!r} does not include the model {shown(model)}. "
            "GET /v1/models lists those that it does."
        ),
        param="model",
    )


def model_not_found(model: str) -> Refusal:
    """404: no such model is configured."""
    return Refusal(
        status_code=404,
        code="model_not_found",
        message=f"There is no model {shown(model)}. GET /v1/models lists those there are.",
        param="model",
    )


def unknown_path(method: str, path: str, there_is: str) -> Refusal:
    """
    404: Relay has no such endpoint.

    Args:
        there_is: Tells what there is instead.
    """
    return Refusal(
        status_code=404,
        code="unknown_url",
        message=f"There is no {shown(method)} {shown(path)} here; {there_is}.",
    )


def method_not_allowed(method: str, path: str, allowed: str) -> Refusal:
    """405: the endpoint exists, the method does not."""
    return Refusal(
        status_code=405,
        code="method_not_allowed",
        message=f"{shown(path)} takes {allowed}, not {shown(method)}.",
        headers={"allow": allowed},
    )


def body_timeout(seconds: float) -> Refusal:
    """408: the body stopped coming before it was complete."""
    return Refusal(
        status_code=408,
        code="body_timeout",
        message=f"Nothing more of the body came for {seconds:g} s. Send it without a pause.",
    )


def body_too_large(limit_bytes: int) -> Refusal:
    """413: the body is longer than the configuration accepts."""
    return Refusal(
        status_code=413,
        code="body_too_large",
        message=f"The body is larger than {limit_bytes} bytes (max_body_bytes).",
    )


def unsupported_content_encoding(encoding: str) -> Refusal:
    """415: compressed bodies are not unpacked: a few bytes could become gigabytes."""
    return Refusal(
        status_code=415,
        code="unsupported_content_encoding",
        message=f"Content-Encoding {shown(encoding)} is not accepted. Send the body as it is.",
    )


def tier_not_configured(tier: str) -> Refusal:
    """500: SQL knows the customer on a tier that the configuration lacks."""
    return Refusal(
        status_code=500,
        code="tier_not_configured",
        type="server_error",
        message=f"The customer's tier {shown(tier)} is not in the configuration.",
    )


def upstream_error() -> Refusal:
    """502: no deployment gave an answer."""
    return Refusal(
        status_code=502,
        code="upstream_error",
        type="upstream_error",
        message="No provider could answer this request. Nothing was charged.",
    )


def answer_too_long() -> Refusal:
    """502: the provider wrote more than is read of an answer. Repeated, it would cost as much."""
    return Refusal(
        status_code=502,
        code="answer_too_long",
        type="upstream_error",
        message=(
            "The provider's answer is too long to be read in one piece. It was charged. Ask for"
            " less at once (n, logprobs, inputs), for numbers in base64, or for a stream."
        ),
        headers=DO_NOT_RETRY,
    )


def upstream_timeout() -> Refusal:
    """504: the last deployment tried was silent for too long."""
    return Refusal(
        status_code=504,
        code="upstream_timeout",
        type="upstream_error",
        message="The provider did not answer in time. Nothing was charged.",
    )


def upstream_interrupted() -> Refusal:
    """Inside a stream, after content: the provider broke off."""
    return Refusal(
        status_code=502,
        code="upstream_error",
        type="upstream_error",
        message="The provider broke off in the middle of its answer. What came was charged.",
    )


def no_deployment_available(retry_after_s: float) -> Refusal:
    """503: all deployments of the model are left out for now."""
    return Refusal(
        status_code=503,
        code="no_deployment_available",
        type="upstream_error",
        message="All deployments of this model failed lately and are left out for now.",
        headers=retry_after(retry_after_s),
    )


def enforcement_unavailable() -> Refusal:
    """503: limits cannot be checked, and the customer is not let through without."""
    return Refusal(
        status_code=503,
        code="enforcement_unavailable",
        type="server_error",
        message=(
            "Limits cannot be checked at the moment, so no provider was called. Nothing was "
            "charged. Repeat the request in a while."
        ),
        headers=retry_after(1),
    )


def internal_error() -> Refusal:
    """500: a bug of ours."""
    return Refusal(
        status_code=500,
        code="internal_error",
        type="server_error",
        message="Relay failed. The request's id is in the header x-request-id.",
    )


def provider_refused(
    status_code: int, message: str, *, code: str | None, param: str | None
) -> Refusal:
    """A provider's own 400, 413 or 422, redacted."""
    return Refusal(
        status_code=status_code, code=code or "provider_refused", message=message, param=param
    )


def shown(text: str) -> str:
    """
    Quote a client's *text* for a message: printable, and short enough to be read.
    """
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")  # noqa: PLR2004 - one line
