"""
Systems that are measured in turn, so that what the machine does besides befalls all alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.figures import quartiles
from benchmarks.load import Outcome
from benchmarks.measuring import CONCURRENCY, Load, Loader

WARM_UP = 2
"""Rounds that do not count."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One system and what it is asked in every round."""

    name: str
    loader: Loader
    requests: int
    connections: int = CONCURRENCY
    model: str = "smart"
    load: Load = field(default_factory=Load)

    def ask(self) -> Outcome:
        """Ask it for one round."""
        return self.loader.ask(self.requests, connections=self.connections, model=self.model)


def compare(contenders: Sequence[Contender], rounds: int) -> None:
    """Measure all *contenders* in turn, every second round the other way round."""
    for number in range(-WARM_UP, rounds):
        for each in contenders if number % 2 else reversed(contenders):
            if number < 0:
                each.ask()
            else:
                each.load.add(each.ask())


def ratios_in_words(of: Contender, to: Contender) -> str:
    """
    Return what *of* costs in CPU, as so many times what *to* does: the median of the rounds, and
    the other quartiles in brackets.
    """
    ratios = [a / b for a, b in zip(of.load.cpu_us, to.load.cpu_us, strict=True)]
    low, middle, high = quartiles(ratios)
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
