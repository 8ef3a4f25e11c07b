"""
The plan: what the proof asks of Relay, and under which configuration.

Pure values. A hold is exactly what the request will cost, by a setting: input is free, and the
providers report the whole output cap as used. So the sums can be checked by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import NANO_USD_PER_USD, NanoUsd

LIMIT = NanoUsd(5 * NANO_USD_PER_USD)
PRICE = NanoUsd(NANO_USD_PER_USD // 10)
"""What a request is held for; and what it costs, where the providers do not lie."""

CAP_TOKENS = 100
"""Output cap of each request. A token costs a hundredth of the price, so a lie of 1 percent is one
token."""

HOLD_TTL_S = 5
"""The shortest that can be configured: what a killed process held comes back soon."""

CUSTOMER_ID = CustomerId("selftest")
CUSTOMER_HEADER = "X-Customer-Id"

TIER = "selftest"

STATE_DIR = "state"
"""Of the write-ahead files, in the folder of the proof."""

FAILING = "failing"
"""Of the models that clients ask for, the one whose provider answers with an error."""

ANSWERING = ("quick", "slow")
"""The others. When a process is killed, some of its requests have just been charged, and others are
under way."""

MODELS = (*ANSWERING, FAILING)

WEIGHTS = (45, 45, 10)
"""How many of a hundred requests ask for each of the models."""

WHOLE_ANSWER_S: Mapping[str, float] = {"quick": 0.2, "slow": 2.0, FAILING: 0.05}
"""How long each provider takes for an answer that is no stream."""

_FIRST_EVENT_SHARE, _EVENT_SHARE = 0.25, 0.05
"""Shares of that: before a stream's first event, and between any two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    Attributes:
        requests: Clients that ask at the same time, each until the money is spent.
        workers: Processes that serve them.
        is_new_customer: Whether nobody has heard of the customer before, so that all requests are
            its first; else it is there.
        lie_percent: By how much providers report more than the cap that they were given.
        pause_s: For how long a second process is stopped, as if it were dead; 0: none is.
    """

    requests: int = 1000
    workers: int = 4
    is_new_customer: bool = False
    lie_percent: int = 0
    pause_s: float = 0.0

    @property
    def max_concurrency(self) -> int | None:
        """
        Most of the customer's requests at the same time, where a lie must have a bound: each may
        cost more than was held for it. Else there is no limit: None.
        """
        return 20 if self.lie_percent else None

    @property
    def has_hang_ups(self) -> bool:
        """
        Whether clients hang up: not where providers lie. A client that leaves makes place for
        another while its own answer is still read, so more than `max_concurrency` may be under way.
        """
        return not self.lie_percent

    @property
    def cost_nano_usd(self) -> NanoUsd:
        """What an answered request costs."""
        return NanoUsd(PRICE + self.excess_nano_usd)

    @property
    def excess_nano_usd(self) -> NanoUsd:
        """By how much a request costs more than was held for it: δ."""
        return NanoUsd(PRICE * self.lie_percent // CAP_TOKENS)

    @property
    def overrun_bound_nano_usd(self) -> NanoUsd:
        """
        The most by which the limit may be passed: each of the requests that were under way when it
        was reached may cost more than was held for it. 0 where providers do not lie.
        """
        return NanoUsd((self.max_concurrency or 0) * self.excess_nano_usd)

    def behaviours(self) -> dict[str, dict[str, object]]:
        """Return how each provider behaves: JSON of `Behaviour`."""
        output_tokens = CAP_TOKENS + self.lie_percent if self.lie_percent else "cap"
        return {
            model: {
                "status": 500 if model == FAILING else None,
                "output_tokens": output_tokens,
                "latency_s": whole_s,
                "first_chunk_delay_s": whole_s * _FIRST_EVENT_SHARE,
                "chunk_delay_s": whole_s * _EVENT_SHARE,
            }
            for model, whole_s in WHOLE_ANSWER_S.items()
        }

    def configuration(
        self, *, provider_url: str, redis_url: str, redis_prefix: str, folder: Path
    ) -> dict[str, object]:
        """Return the configuration that is served."""
        return {
            "model_list": [_deployment(model, provider_url) for model in MODELS],
            # A provider fails all the time: it is not to be left out for it.
            "router_settings": {"allowed_fails": 1_000_000},
            "prices": {
                "openai/gpt-4o-mini": {
                    "usd_per_million_input_tokens": 0,
                    "usd_per_million_cached_input_tokens": 0,
                    "usd_per_million_output_tokens": 1000,
                }
            },
            "tiers": {TIER: self._tier()},
            "customers": {"headers": [CUSTOMER_HEADER], "default_tier": TIER},
            "redis_url": redis_url,
            "redis_prefix": redis_prefix,
            "database_url": f"sqlite:///{folder}/relay.db",
            "state_dir": str(folder / STATE_DIR),
            "hold_ttl_s": HOLD_TTL_S,
            "drain_timeout_s": 10,
        }

    def _tier(self) -> dict[str, object]:
        tier: dict[str, object] = {
            "models": list(MODELS),
            "spend_limits": [{"cents": 500, "per": "lifetime"}],
            "default_output_tokens": CAP_TOKENS,
        }
        if self.max_concurrency is not None:
            tier["max_concurrency"] = self.max_concurrency
        return tier


def _deployment(model: str, provider_url: str) -> dict[str, object]:
    params = {
        "model": "openai/gpt-4o-mini",
        "api_base": f"{provider_url}/{model}/v1",
        "api_key": "sk-simulated",
    }
    return {"model_name": model, "litellm_params": params}
