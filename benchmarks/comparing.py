"""
Systems that are measured in turn, so that what the machine does besides befalls all alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.figures import quartiles
from benchmarks.load import Outcome
from benchmarks.measuring import CONCURRENCY, Load, Loader
from benchmarks.variants import Result

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


def print_ratios(contenders: Sequence[Contender]) -> None:
    """
    Print what each of *contenders* costs in CPU, and as so many times what the first does: the
    medians of the rounds, and the other quartiles in brackets.
    """
    first = contenders[0]
    for each in contenders:
        low, middle, high = quartiles(each.load.cpu_us)
        words = f"{each.name:24} {middle:7,.0f} us [{low:,.0f}-{high:,.0f}]"
        if each is not first:
            ratios = [a / b for a, b in zip(each.load.cpu_us, first.load.cpu_us, strict=True)]
            low, middle, high = quartiles(ratios)
            words += f"  {each.name} / {first.name}: {middle:.2f} [{low:.2f}-{high:.2f}]"
        print(words, flush=True)


def results_of(contenders: Sequence[Contender]) -> list[Result]:
    """Wait until the ledgers have heard of all, and return what was counted."""
    return [Result(name=each.name, counts=each.loader.close()) for each in contenders]
