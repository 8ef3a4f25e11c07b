"""
Streams: pass a provider's events on as they came, and put the cost into the last one.

Rules. The newest event that carries a `finish_reason` or a usage is held back until the next one
comes, because it may be the last with JSON in it. If another event comes, the held one goes out as
it was. A usage chunk (no choices) that the client did not ask for is not passed on: its usage goes
into the held event. A later usage replaces an earlier one, they are never added: some providers
repeat it, cumulative. Everything else goes out at once and unchanged, byte for byte.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from relay_middleware.core.annotation import annotated
from relay_middleware.core.sse import DONE, ServerSentEvent, encode
from relay_middleware.core.usage import Usage, UsageSource, with_output
from relay_middleware.core.values import dataclass

# Only events that match are decoded. Inside a JSON text the quotes would be escaped, so a model
# that writes these words does not match.
_NOTABLE = re.compile(rb'"usage"\s*:\s*\{|"finish_reason"\s*:\s*"|"error"\s*:\s*[{"]')


@dataclass(frozen=True, slots=True)
class _Held:
    event: ServerSentEvent
    chunk: Mapping[str, object]

    @property
    def is_usage_chunk(self) -> bool:
        return not self.chunk.get("choices")


@dataclass(slots=True)
class _Received:
    """Text that came: bytes, in pieces that are not empty."""

    bytes: int = 0
    pieces: int = 0

    def add(self, sizes: Sequence[int]) -> None:
        self.bytes += sum(sizes)
        self.pieces += len(sizes)


class StreamAnnotator:
    """
    Decides what of a stream goes out, and when. Feed it events until `is_ended`, then `finish`.

    Attributes:
        usage: What the provider reported last, or None.
        usage_object: The same, as the provider sent it.
        is_ended: `[DONE]` or an error event has come; later events are ignored.
        is_broken: The provider reported an error inside the stream.
        is_finished: Some `finish_reason` has come, so that an end without `[DONE]` is whole.
    """

    def __init__(
        self,
        *,
        wants_usage_chunk: bool,
        usage_of: Callable[[Mapping[str, object]], Usage | None],
        output_sizes: Callable[[bytes], Sequence[int]],
        decode_json: Callable[[bytes], object],
        encode_json: Callable[[object], bytes],
    ) -> None:
        """
        Args:
            wants_usage_chunk: Whether the client asked for OpenAI's usage chunk.
            usage_of: Reads a decoded chunk's usage.
            output_sizes: Measures each text that an event's data carries.
            decode_json: Raises ValueError where its argument is no JSON.
            encode_json: The inverse.
        """  # fmt: skip
        self.usage: Usage | None = None
        self.usage_object: Mapping[str, object] | None = None
        self.is_ended = False
        self.is_broken = False
        self.is_finished = False
        self._wants_usage_chunk = wants_usage_chunk
        self._usage_of = usage_of
        self._sizes = output_sizes
        self._received = _Received()
        self._unreported = _Received()
        self._decode = decode_json
        self._encode = encode_json
        self._held: _Held | None = None
        self._last_data = b"{}"

    def feed(self, events: Sequence[ServerSentEvent]) -> bytes:
        """Take *events* and return the bytes to send now; may be empty."""
        if len(events) == 1 and not self.is_ended:
            return self._take(events[0])
        return b"".join([self._take(event) for event in events if not self.is_ended])

    def _take(self, event: ServerSentEvent) -> bytes:
        if event.data is None:
            return event.raw
        if event.data == DONE:
            self.is_ended = True
            return b""
        if sizes := self._sizes(event.data):
            self._received.add(sizes)
            self._unreported.add(sizes)
        chunk = self._notable(event.data)
        if chunk is None:
            self._last_data = event.data
            return event.raw if self._held is None else self._release() + event.raw
        if chunk.get("error"):
            self.is_ended = self.is_broken = True
            return b""
        return self._hold(event, chunk)

    def _notable(self, data: bytes) -> Mapping[str, object] | None:
        if not _NOTABLE.search(data):
            return None
        try:
            chunk = self._decode(data)
        except ValueError:
            return None
        return chunk if isinstance(chunk, Mapping) else None

    def _hold(self, event: ServerSentEvent, chunk: Mapping[str, object]) -> bytes:
        usage = self._usage_of(chunk)
        if usage is not None:
            self.usage = usage
            self._unreported = _Received()
            usage_object = chunk["usage"]
            self.usage_object = usage_object if isinstance(usage_object, Mapping) else None
        has_choices = bool(chunk.get("choices"))
        self.is_finished = self.is_finished or _is_finish(chunk)
        if not has_choices and not self._wants_usage_chunk:
            return b""
        is_repeated = self._held is not None and not has_choices and self._held.is_usage_chunk
        released = b"" if is_repeated else self._release()
        self._held = _Held(event, chunk)
        return released

    def _release(self) -> bytes:
        held, self._held = self._held, None
        return b"" if held is None else held.event.raw

    def usage_so_far(self, begun: Callable[[], Usage]) -> tuple[Usage, UsageSource]:
        """
        Return what the answer has used, and who says so: of one that was cut off, no report of the
        provider's is the last.

        Args:
            begun: Returns its input; asked where the provider has reported nothing here.
        """
        if self.usage is None:
            received = self._received
            usage = with_output(begun(), received.bytes, received.pieces)
            return usage, UsageSource.COUNTED
        if self._unreported.pieces:
            unreported = self._unreported
            usage = with_output(self.usage, unreported.bytes, unreported.pieces)
            return usage, UsageSource.COUNTED
        return self.usage, UsageSource.PROVIDER

    @property
    def is_reported(self) -> bool:
        """Whether the provider has reported all of the answer: no less, and no text came since."""
        is_over = self.is_finished or (self.is_ended and not self.is_broken)
        return is_over and self.usage is not None and not self._unreported.pieces

    def finish(
        self, *, usage: Mapping[str, object], added: bytes, error: Mapping[str, object] | None
    ) -> bytes:
        """
        Return the last bytes: an annotated event, and `[DONE]`.

        Args:
            usage: The usage object to show.
            added: The annotation's members, as `annotation.to_members` makes them.
            error: The envelope of what went wrong after content; None where nothing did.
        """
        if error is not None:
            last = annotated(b"", error, usage=usage, added=added, encode=self._encode)
            return self._release() + encode(last) + encode(DONE)
        held, self._held = self._held, None
        if held is None or held.event.data is None:
            data, chunk = b"", self._empty_chunk()
        else:
            data, chunk = held.event.data, held.chunk
        last = annotated(data, chunk, usage=usage, added=added, encode=self._encode)
        return encode(last) + encode(DONE)

    def _empty_chunk(self) -> Mapping[str, object]:
        """A chunk that adds nothing, for a stream that left none to annotate."""
        try:
            last = self._decode(self._last_data)
        except ValueError:
            last = {}
        known = last if isinstance(last, Mapping) else {}
        kept = {name: known[name] for name in ("id", "object", "created", "model") if name in known}
        # With a choice, because clients read `choices[0]` of every chunk they did not ask for.
        return {**kept, "choices": [{"index": 0, "delta": {}, "finish_reason": None}]}


def _is_finish(chunk: Mapping[str, object]) -> bool:
    choices = chunk.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, Mapping) and choice.get("finish_reason") for choice in choices
    )
