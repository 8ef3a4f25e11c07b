"""
Totals: what the calls that one request of a host application made came to.
"""

from dataclasses import replace

from relay_middleware.core.annotation import Receipt, remaining_headers
from relay_middleware.core.money import NanoUsd, format_cents
from relay_middleware.core.values import dataclass

ZERO = NanoUsd(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """
    Sums over the calls that have ended, all of one customer.

    Attributes:
        calls: How many answers were charged.
        charge_nano_usd: What the customer pays for them.
        spend_remaining_nano_usd: As the last of them told it; None where there is no limit, or it
            is not known.
    """

    calls: int = 0
    charge_nano_usd: NanoUsd = ZERO
    input_tokens: int = 0
    output_tokens: int = 0
    customer_id: str = ""
    spend_remaining_nano_usd: NanoUsd | None = None

    def plus(self, receipt: Receipt) -> "Totals":
        """Return the sums with one more call."""
        return replace(
            self,
            calls=self.calls + 1,
            charge_nano_usd=NanoUsd(self.charge_nano_usd + receipt.charge_nano_usd),
            input_tokens=self.input_tokens + receipt.usage.input_tokens,
            output_tokens=self.output_tokens + receipt.usage.output_tokens,
            customer_id=receipt.customer_id,
            spend_remaining_nano_usd=receipt.spend_remaining_nano_usd,
        )


def totals_headers(totals: Totals) -> list[tuple[bytes, bytes]]:
    """Return the headers of the host's response; none where no call has ended."""
    if totals.calls == 0:
        return []
    return [
        (b"x-relay-customer", totals.customer_id.encode()),
        (b"x-relay-calls", b"%d" % totals.calls),
        (b"x-relay-cost-cents", format_cents(totals.charge_nano_usd).encode()),
        (b"x-relay-input-tokens", b"%d" % totals.input_tokens),
        (b"x-relay-output-tokens", b"%d" % totals.output_tokens),
        *remaining_headers(totals.spend_remaining_nano_usd),
    ]
