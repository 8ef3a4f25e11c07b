"""
Calls that an application makes itself, for one customer, without a network and without a key.

Alone knows the `openai` package: what is asked and answered is what its client asks and gets.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, overload

import httpx
import openai
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

from relay_middleware.asgi import Receive, Scope, Send, send_refusal
from relay_middleware.core.annotation import Receipt
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.refusals import Refusal, RefusedError
from relay_middleware.core.totals import Totals
from relay_middleware.in_process import BASE_URL, InProcessTransport

_TOLD_HEADERS = ("retry-after", "x-should-retry", "x-request-id", "www-authenticate")
"""Headers of a refusal that go on to whoever made the application make the call."""


class Handle(Protocol):
    """`Relay.handle`."""

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        path: str,
        customer_id: CustomerId | None = None,
        on_receipt: Callable[[Receipt], None] = ...,
    ) -> None: ...


class CustomerCalls:
    """
    The calls of one customer; what `request.state.relay` is.

    Attributes:
        totals: What the calls that have ended came to.
    """

    def __init__(self, handle: Handle, customer: Callable[[], Awaitable[CustomerId]]) -> None:
        """
        Args:
            customer: Says who pays, and raises `RefusedError` where nobody does; asked at the
                first call.
        """  # fmt: skip
        self._handle = handle
        self._find_customer = customer
        self._customer_id: CustomerId | None = None
        self._client: AsyncOpenAI | None = None
        self.totals = Totals()

    async def text(self, system: str, user: str, model: str | None = None) -> str:
        """
        Ask *user* under the instructions *system*, and return the answer's text.

        Args:
            model: None: the default of the customer's tier.

        Raises:
            RefusedError: The call is refused, or no provider answered. Nothing is charged.
        """
        messages: list[ChatCompletionMessageParam] = [
            {"role": "system", "content": system},
            {"role": "user", "content": user},
        ]
        answer = await self.chat(model=model, messages=messages)
        return answer.choices[0].message.content or ""

    @overload
    async def chat(
        self, *, stream: Literal[True], **parameters: Any
    ) -> AsyncStream[ChatCompletionChunk]: ...

    @overload
    async def chat(self, *, stream: Literal[False] = ..., **parameters: Any) -> ChatCompletion: ...

    async def chat(self, *, stream: bool = False, **parameters: Any) -> Any:
        """
        Create a chat completion; a stream, with *stream*, is to be iterated to its end or closed.

        Args:
            parameters: As of OpenAI's `chat.completions.create`; without `model`, the default of
                the customer's tier answers.

        Raises:
            RefusedError: The call is refused, or no provider answered. Nothing is charged.
        """
        # Now, rather than in the transport, where the client would take it for a lost connection.
        await self._customer()
        parameters.setdefault("model", None)
        try:
            return await self.openai().chat.completions.create(stream=stream, **parameters)
        except openai.APIStatusError as error:
            raise RefusedError(refusal_in(error.response, error.body)) from None
        except openai.APIConnectionError as error:
            # There is no connection: the relay could not be opened, and says why.
            raise (error.__cause__ or error) from None

    def openai(self) -> AsyncOpenAI:
        """
        Return an OpenAI client whose requests are this customer's; it raises `openai`'s errors.
        """
        if self._client is None:
            self._client = AsyncOpenAI(
                api_key="none",
                base_url=BASE_URL,
                max_retries=0,  # Relay falls back itself, and a refusal does not get better.
                http_client=httpx.AsyncClient(
                    transport=InProcessTransport(self._serve), base_url=BASE_URL, trust_env=False
                ),
            )
        return self._client

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            customer_id = await self._customer()
        except RefusedError as error:
            await send_refusal(send, error.refusal)
            return
        await self._handle(
            scope,
            receive,
            send,
            path=scope["path"],
            customer_id=customer_id,
            on_receipt=self._note,
        )

    async def _customer(self) -> CustomerId:
        if self._customer_id is None:
            self._customer_id = await self._find_customer()
        return self._customer_id

    def _note(self, receipt: Receipt) -> None:
        self.totals = self.totals.plus(receipt)


def refusal_of(error: BaseException) -> Refusal | None:
    """
    Return what Relay refused where *error* says so, in its own words or in `openai`'s; else None.
    """
    if isinstance(error, RefusedError):
        return error.refusal
    if isinstance(error, openai.APIStatusError) and _is_ours(error.response):
        return refusal_in(error.response, error.body)
    if isinstance(error, BaseExceptionGroup):
        found = [refusal_of(each) for each in error.exceptions]
        # A group that holds another error too is a bug of the application: it should see it.
        return found[0] if None not in found else None
    return None


def _is_ours(response: httpx.Response) -> bool:
    return str(response.request.url).startswith(BASE_URL)


def refusal_in(response: httpx.Response, error: object) -> Refusal:
    """Return the refusal that *response*, whose envelope holds *error*, came of."""
    facts = error if isinstance(error, dict) else {}
    return Refusal(
        status_code=response.status_code,
        code=facts.get("code") or "provider_refused",
        message=facts.get("message") or "The call was refused.",
        type=facts.get("type") or "invalid_request_error",
        param=facts.get("param"),
        metadata=facts.get("metadata") or {},
        headers={
            name: response.headers[name] for name in _TOLD_HEADERS if name in response.headers
        },
    )
