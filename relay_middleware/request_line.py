"""
What the log says of a request: one line, when it has ended.
"""

from dataclasses import dataclass

from relay_middleware.core.charging import Bill
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.records import Attempt
from relay_middleware.core.usage import Usage


@dataclass
class RequestLine:
    """
    Facts of one request, gathered while it is served. Never a prompt, a completion or a key.

    Attributes:
        status: HTTP status sent; 499 where the client hung up before there was one.
        code: Of the refusal, if it was refused.
        overrun_nano_usd: By how much the charge is above the hold, where it is: the provider has
            ignored the output cap, or counts the input otherwise.
        is_client_gone: Whether the client hung up before the end.
    """

    request_id: str
    method: str
    path: str
    customer_id: str | None = None
    api_key_id: str | None = None
    tier: str | None = None
    model: str | None = None
    is_stream: bool | None = None
    provider: str | None = None
    attempts: int | None = None
    status: int | None = None
    code: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    usage_source: str | None = None
    cost_nano_usd: int | None = None
    charge_nano_usd: int | None = None
    overrun_nano_usd: int | None = None
    is_client_gone: bool | None = None
    duration_ms: float | None = None

    def tried(self, attempts: tuple[Attempt, ...]) -> None:
        """Note which way the request went."""
        self.attempts = len(attempts)
        if attempts:
            self.provider = attempts[-1].provider

    def charged(self, usage: Usage, source: str, billed: Bill, *, hold_nano_usd: NanoUsd) -> None:
        """Note what it came to, and what was set aside for it."""
        self.input_tokens = usage.input_tokens
        self.output_tokens = usage.output_tokens
        self.usage_source = source
        self.cost_nano_usd = billed.cost_nano_usd
        self.charge_nano_usd = billed.charge_nano_usd
        if billed.charge_nano_usd > hold_nano_usd:
            self.overrun_nano_usd = billed.charge_nano_usd - hold_nano_usd

    def facts(self) -> dict[str, object]:
        """Return what is known, for the logger."""
        return {name: value for name, value in vars(self).items() if value is not None}
