"""
An admitted request, from an open hold to an annotated answer.

Rules for editors. It runs in a task that the client's leaving does not cancel: the provider's
answer is read and settled whatever becomes of the client. Once a hold is open every path ends it
through `Settlement`; the `finally` of `run` is the net under all of them.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import orjson

from relay_middleware.admission import Admitted
from relay_middleware.asgi import ClientWatch, HeaderPairs, Responder
from relay_middleware.core import annotation, refusals
from relay_middleware.core.annotation import Receipt
from relay_middleware.core.charging import Bill
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Endpoint
from relay_middleware.core.keys import KeyRight
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.records import NO_ANSWER, Attempt
from relay_middleware.core.refusals import Refusal, RefusedError
from relay_middleware.core.sse import EventStreamDecoder, EventTooLongError
from relay_middleware.core.streams import StreamAnnotator
from relay_middleware.core.tiers import OnDisconnect
from relay_middleware.core.usage import (
    Usage,
    UsageSource,
    counted_usage,
    within_cap,
    without_output,
)
from relay_middleware.ending import vacate
from relay_middleware.errors import (
    NoDeploymentError,
    StreamBrokenError,
    UpstreamError,
    UpstreamTimeoutError,
)
from relay_middleware.ports.providers import RefusedAnswer, StreamAnswer, UpstreamCall, WholeAnswer
from relay_middleware.request_line import RequestLine
from relay_middleware.services import Services
from relay_middleware.settlement import Consumption, Settlement

STREAM_HEADERS: HeaderPairs = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx would collect the events otherwise.
    (b"x-accel-buffering", b"no"),
)


Answer = WholeAnswer | StreamAnswer | RefusedAnswer


class Completion:
    """Sends one admitted request upstream and answers its client."""

    def __init__(
        self,
        services: Services,
        endpoint: Endpoint,
        admitted: Admitted,
        *,
        responder: Responder,
        watch: ClientWatch,
        line: RequestLine,
        on_receipt: Callable[[Receipt], None],
    ) -> None:
        self._services = services
        self._endpoint = endpoint
        self._admitted = admitted
        self._responder = responder
        self._watch = watch
        self._line = line
        self._on_receipt = on_receipt
        self._settlement = Settlement(services, admitted)
        self._tried: list[Deployment] = []
        self._attempts: tuple[Attempt, ...] = ()
        self._annotator: StreamAnnotator | None = None
        self._stream: StreamAnswer | None = None
        self._is_broken = False

    async def run(self) -> None:
        """
        Answer the client, and end the hold.

        Raises:
            RefusedError: No provider gave an answer, or one refused the request as wrong.
        """
        try:
            async with asyncio.timeout(None) as limit:
                with self._draining(limit):
                    answer = await self._receive()
            # Outside of the limit: a settle must not be cut off in its middle.
            await self._conclude(answer)
        except UpstreamError as error:
            raise await self._unanswered(_refusal_of(error), error.attempts) from error
        except TimeoutError:
            # The client has gone, and so has the time in which its answer is read all the same.
            self._line.is_client_gone = True
        finally:
            if not self._settlement.is_ended:
                await self._settle_unfinished()

    @contextlib.contextmanager
    def _draining(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Limit the work from the moment that the client goes (DESIGN 5.13)."""
        drains = self._services.drains
        is_drained = self._admitted.tier.on_disconnect is OnDisconnect.DRAIN
        seconds = 0.0

        def begin() -> None:
            nonlocal seconds
            self._vacate()
            seconds = drains.enter() if is_drained else 0.0
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

        try:
            with self._watch.calling(begin):
                yield
        finally:
            if seconds:
                drains.leave()

    def _vacate(self) -> None:
        """Let the customer's next request in: nobody waits for this one any more (DESIGN 5.13)."""
        hold = self._admitted.hold
        if hold.max_concurrency is not None:
            self._services.background.spawn(vacate(self._services, hold))

    async def _receive(self) -> Answer | None:
        """Have the request answered, a stream to its end; None if the client was gone before."""
        if self._watch.is_gone:
            return None
        # From here on money may be spent: whoever finds this process dead must know.
        self._services.spool.dispatching(self._admitted.hold)
        answer = await self._services.upstream.send(self._call())
        self._attempts = answer.attempts
        self._line.tried(answer.attempts)
        if isinstance(answer, StreamAnswer):
            # Whatever ends this, the provider is hung up on, and what came is known.
            async with contextlib.aclosing(answer.chunks):
                self._stream = answer
                self._annotator = self._new_annotator(answer.deployment)
                await self._responder.start(200, self._stream_headers(answer))
                self._is_broken = await self._pump(answer, self._annotator)
        return answer

    async def _conclude(self, answer: Answer | None) -> None:
        """Charge *answer*, and send what the client has not got of it."""
        match answer:
            case WholeAnswer(is_too_long=True):
                refusal = refusals.answer_too_long()
                usage = self._longest(answer.deployment)
                told = refusal.status_code
                await self._settle(answer.deployment, usage, UsageSource.COUNTED, told=told)
                raise RefusedError(refusal)
            case WholeAnswer():
                await self._send_whole(answer)
            case StreamAnswer() if self._annotator is not None:
                await self._end_stream(answer.deployment, self._annotator)
            case RefusedAnswer(status_code=status_code, message=message):
                refusal = refusals.provider_refused(
                    status_code, message, code=answer.code, param=answer.param
                )
                raise await self._unanswered(refusal, answer.attempts)

    def _call(self) -> UpstreamCall:
        return UpstreamCall(
            endpoint=self._endpoint,
            model=self._admitted.model,
            body=self._admitted.call.body,
            is_stream=self._admitted.call.is_stream,
            output_cap_tokens=self._admitted.output_cap_tokens,
            on_attempt=self._tried.append,
        )

    async def _unanswered(self, refusal: Refusal, attempts: tuple[Attempt, ...]) -> RefusedError:
        """End the hold for nothing, and return what to tell the client."""
        self._line.tried(attempts)
        await self._settlement.release(
            attempts=attempts, status_code=self._told(refusal.status_code)
        )
        return RefusedError(refusal)

    async def _send_whole(self, answer: WholeAnswer) -> None:
        deployment = answer.deployment
        usage = self._endpoint.usage_of(
            answer.members, reasoning_in_output=deployment.reasoning_in_output
        )
        shown = answer.members.get("usage")
        source = UsageSource.PROVIDER
        if usage is None or not isinstance(shown, Mapping):
            usage, source = (
                self._counted(sum(self._endpoint.output_sizes(answer.body))),
                UsageSource.COUNTED,
            )
            shown = self._endpoint.to_wire(usage)
        receipt = await self._settle(deployment, usage, source)
        body = annotation.annotated(
            answer.body,
            answer.members,
            usage=shown,
            added=annotation.to_members(receipt, orjson.dumps),
            encode=orjson.dumps,
        )
        headers = [
            *annotation.to_headers(receipt),
            *annotation.dropped_headers(answer.dropped),
            *self._limit_headers(),
        ]
        await self._responder.send_json(200, headers, body)

    def _new_annotator(self, deployment: Deployment) -> StreamAnnotator:
        return StreamAnnotator(
            wants_usage_chunk=self._admitted.call.wants_usage_chunk,
            usage_of=partial(
                self._endpoint.usage_of, reasoning_in_output=deployment.reasoning_in_output
            ),
            output_sizes=self._endpoint.output_sizes,
            decode_json=orjson.loads,
            encode_json=orjson.dumps,
        )

    async def _end_stream(self, deployment: Deployment, annotator: StreamAnnotator) -> None:
        usage, source = self._streamed_usage(annotator)
        receipt = await self._settle(deployment, usage, source)
        reported = annotator.usage_object if source is UsageSource.PROVIDER else None
        last = annotator.finish(
            usage=reported or self._endpoint.to_wire(usage),
            added=annotation.to_members(receipt, orjson.dumps),
            error=refusals.upstream_interrupted().envelope() if self._is_broken else None,
        )
        await self._responder.write(last, is_last=True)

    async def _pump(self, answer: StreamAnswer, annotator: StreamAnnotator) -> bool:
        """Pass the stream on to its end; return whether it broke off."""
        decoder = EventStreamDecoder()
        try:
            async for chunk in answer.chunks:
                passed = annotator.feed(decoder.feed(chunk))
                if passed:
                    await self._responder.write(passed)
                if annotator.is_ended:
                    break
            else:
                await self._responder.write(annotator.feed(decoder.rest()))
        except (StreamBrokenError, EventTooLongError):
            return True
        return annotator.is_broken or not (annotator.is_ended or annotator.is_finished)

    def _streamed_usage(self, annotator: StreamAnnotator) -> tuple[Usage, UsageSource]:
        return annotator.usage_so_far(self._begun)

    def _begun(self) -> Usage:
        """What was used before any output: as the provider has told, or counted."""
        told = None if self._stream is None else self._stream.early_usage()
        usage = self._endpoint.usage_of({"usage": told}, reasoning_in_output=True)
        return self._counted(0) if usage is None else without_output(usage)

    def _counted(self, output_bytes: int) -> Usage:
        return counted_usage(
            input_bytes=self._endpoint.input_bytes(self._admitted.call.body),
            output_bytes=output_bytes,
        )

    def _longest(self, deployment: Deployment) -> Usage:
        """What an answer used that is as long as it may be: all that the caps allow."""
        caps = [self._admitted.output_cap_tokens]
        if deployment.price is not None:
            caps.append(deployment.price.max_output_tokens)
        output = min((cap for cap in caps if cap is not None), default=0)
        return replace(self._begun(), output_tokens=self._admitted.call.choices * output)

    async def _settle_unfinished(self) -> None:
        """End the hold of an answer that was given up: for what had come of it."""
        if not self._tried:
            await self._settlement.release(attempts=(), status_code=self._told(NO_ANSWER))
            return
        if self._annotator is not None:
            usage, source = self._streamed_usage(self._annotator)
        else:
            usage, source = self._begun(), UsageSource.COUNTED
        await self._settle(self._tried[-1], usage, source)

    def _told(self, status_code: int) -> int:
        """What the client gets: *status_code*, unless it has gone."""
        is_gone = self._watch.is_gone
        return (self._responder.status_code or NO_ANSWER) if is_gone else status_code

    async def _settle(
        self, deployment: Deployment, usage: Usage, source: UsageSource, *, told: int = 200
    ) -> Receipt:
        cap, choices = self._admitted.output_cap_tokens, self._admitted.call.choices
        if source is UsageSource.COUNTED and cap is not None and deployment.is_output_capped:
            usage = within_cap(usage, choices * cap)
        consumption = Consumption(usage=usage, source=source, deployment=deployment)
        billed, remaining = await self._settlement.settle(
            consumption,
            attempts=self._attempts,
            status_code=self._told(told),
        )
        held = self._admitted.hold.amount_nano_usd
        self._line.charged(usage, source.value, billed, hold_nano_usd=held)
        receipt = self._receipt(deployment, usage, source, billed, remaining)
        self._on_receipt(receipt)
        return receipt

    def _receipt(
        self,
        deployment: Deployment,
        usage: Usage,
        source: UsageSource,
        billed: Bill,
        remaining: NanoUsd | None,
    ) -> Receipt:
        admitted = self._admitted
        # A customer's own key must not read what the operator earns on it.
        may_see_cost = admitted.key.right is KeyRight.NAME_CUSTOMERS
        return Receipt(
            request_id=admitted.hold.hold_id,
            customer_id=admitted.hold.customer_id,
            tier=admitted.tier.name,
            model=admitted.model,
            provider=deployment.provider,
            deployment_model=deployment.deployment_model,
            attempts=len(self._attempts),
            usage=usage,
            usage_source=source,
            charge_nano_usd=billed.charge_nano_usd,
            provider_cost_nano_usd=billed.cost_nano_usd if may_see_cost else None,
            spend_remaining_nano_usd=remaining,
            is_priced=deployment.price is not None,
        )

    def _stream_headers(self, answer: StreamAnswer) -> HeaderPairs:
        admitted = self._admitted
        return [
            *STREAM_HEADERS,
            *annotation.opening_headers(
                admitted.hold.hold_id, admitted.hold.customer_id, admitted.model
            ),
            *annotation.route_headers(answer.deployment.provider, len(self._attempts)),
            *annotation.dropped_headers(answer.dropped),
            *annotation.remaining_headers(admitted.remaining_nano_usd),
            *self._limit_headers(),
        ]

    def _limit_headers(self) -> HeaderPairs:
        """Headers of the limits: requests, tokens, and the output cap where it was lowered."""
        headers = annotation.token_headers(self._admitted.tokens)
        if self._admitted.is_cap_lowered:
            headers.append((b"x-relay-output-cap", b"%d" % (self._admitted.output_cap_tokens or 0)))
        headers.extend(annotation.rate_headers(self._admitted.rates))
        return headers


def _refusal_of(error: UpstreamError) -> Refusal:
    if isinstance(error, NoDeploymentError):
        return refusals.no_deployment_available(error.retry_after_s)
    if isinstance(error, UpstreamTimeoutError):
        return refusals.upstream_timeout()
    return refusals.upstream_error()
