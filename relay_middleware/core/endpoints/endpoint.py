"""
An endpoint: all that Relay must know of one of OpenAI's paths to limit, price and annotate it.

To add one, write a module beside this that ends in an `Endpoint`, and name it in `table.py`. What
is not about its path (keys, customers, holds, routing, settling, streams) works as it is. Where
providers with another wire shall serve it too, `upstream/translation.py` has one more line.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from relay_middleware.core.endpoints.members import JsonObject
from relay_middleware.core.usage import Usage
from relay_middleware.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    What a request asks for, as far as Relay must know.

    Attributes:
        model: As asked, or None for the tier's default.
        wants_usage_chunk: Whether the client asked for a stream's usage.
        choices: Number of answers asked for (`n`), each as long as the output cap; 0 where the
            endpoint generates none.
        asked_output_tokens: Output cap of one choice that the client named, or None.
        framed_inputs: How many inputs there are that a provider wraps something around, such as
            messages.
        contexts: How many inputs the model reads apart from each other, each up to its context.
        has_tools: Whether functions, or a form of the answer, are described, around which a
            provider writes instructions.
        has_opaque_input: Whether some input's tokens cannot be told from its bytes: images, audio,
            files, and references to what a provider has stored.
        may_name_media: Whether some text may be taken for a reference to such, where LiteLLM
            translates.
        unbounded_member: A member that buys something without a bound, or None.
        asks_for_reasoning: Whether the client asked the model to think first.
        may_get_reasoning: Whether it said anything of thinking but a plain no.
        asks_for_audio: Whether the answer may be spoken.
        service_tier: As asked.
        user: The body's `user`, whatever it is.
    """

    body: JsonObject
    model: str | None
    is_stream: bool = False
    wants_usage_chunk: bool = False
    choices: int
    asked_output_tokens: int | None = None
    framed_inputs: int
    contexts: int = 1
    has_tools: bool = False
    has_opaque_input: bool = False
    may_name_media: bool = False
    unbounded_member: str | None = None
    asks_for_reasoning: bool = False
    may_get_reasoning: bool = False
    asks_for_audio: bool = False
    service_tier: str | None = None
    user: object = None


class UsageReader(Protocol):
    """Reads what an answer, whole or one chunk of a stream, says was used."""

    def __call__(self, answer: JsonObject, *, reasoning_in_output: bool) -> Usage | None:
        """
        Return the usage, or None where *answer* says nothing.

        Args:
            reasoning_in_output: Whether the provider's output count includes the reasoning.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    One of OpenAI's paths.

    Attributes:
        path: Below `/v1/`, such as `chat/completions`.
        parse: Reads a decoded body; raises `RefusedError`, 400, naming the member that is wrong.
        usage_of: What the provider says was used.
        output_sizes: Bytes of each text in the JSON of an answer or a chunk, where it has any:
            counted where no provider did.
        input_bytes: UTF-8 bytes of the texts in a request's body; for the same.
        input_text: All texts of a request that a model reads: for counting its tokens.
        to_wire: OpenAI's `usage` object of this endpoint: for answers whose provider sent none.
        answer_member: Member that an answer has and an error has not.
        parameters: Members of a body that a translated provider may be told (DESIGN 7); the model
            and streaming aside. All others are not passed on.
    """

    path: str
    parse: Callable[[object], Call]
    usage_of: UsageReader
    output_sizes: Callable[[bytes], Sequence[int]]
    input_bytes: Callable[[JsonObject], int]
    input_text: Callable[[JsonObject], str]
    to_wire: Callable[[Usage], Mapping[str, object]]
    answer_member: str
    parameters: frozenset[str]
