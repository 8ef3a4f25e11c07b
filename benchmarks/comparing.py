"""
Systems that are measured in turn, so that what the machine does besides befalls all alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.figures import quartiles
from benchmarks.load import Outcome
from benchmarks.measuring import CONCURRENCY, Load, Loader
from benchmarks.servers import Served

WARM_UP = 2
"""Rounds that do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """
    What a system is asked in every round.

    Attributes:
        fewest_events: Of a stream; 0 where none is asked for.
    """

    requests: int
    connections: int = CONCURRENCY
    model: str = "smart"
    fewest_events: int = 0


@dataclass(frozen=True, slots=True)
class Contender:
    """One system and what it is asked."""

    name: str
    loader: Loader
    asked: Ask
    load: Load = field(default_factory=Load)

    @property
    def served(self) -> Served:
        """The system."""
        return self.loader.served

    def ask(self) -> Outcome:
        """Ask it for one round."""
        asked = self.asked
        return self.loader.ask(
            asked.requests,
            connections=asked.connections,
            model=asked.model,
            fewest_events=asked.fewest_events,
        )


def compare(contenders: Sequence[Contender], rounds: int) -> None:
    """Measure all *contenders* in turn, every second round the other way round."""
    for number in range(-WARM_UP, rounds):
        for each in contenders if number % 2 else reversed(contenders):
            if number < 0:
                each.ask()
            else:
                each.load.add(each.ask())


def ratios(of: Contender, to: Contender) -> tuple[float, float, float]:
    """Return the quartiles of what *of* costs in CPU, as so many times what *to* does."""
    return quartiles([a / b for a, b in zip(of.load.cpu_us, to.load.cpu_us, strict=True)])


def ratios_in_words(of: Contender, to: Contender) -> str:
    """Return the median of the ratios, and the other quartiles in brackets."""
    low, middle, high = ratios(of, to)
    return f"{middle:.2f} [{low:.2f}-{high:.2f}]"


def print_ratios(contenders: Sequence[Contender]) -> None:
    """Print what each of *contenders* costs, and as so many times what the first does."""
    first = contenders[0]
    for each in contenders:
        low, middle, high = quartiles(each.load.cpu_us)
        words = f"{each.name:24} {middle:7,.0f} us [{low:,.0f}-{high:,.0f}]"
        if each is not first:
            words += f"  {each.name} / {first.name}: {ratios_in_words(each, first)}"
        print(words, flush=True)
