"""
What a chat request costs `relay serve`, by the way it speaks to Redis, and in other checkouts.

    python -m benchmarks.chat [PAIRS] [NAME=CHECKOUT ...]

All limits on, ledger written (SQLite), 16 requests at once to one worker. The variants are measured
in turn; of PAIRS (20) the medians are printed, and of the ratios to the first variant the median
and the other quartiles.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.comparing import Contender, compare, print_ratios, results_of
from benchmarks.measuring import Loader
from benchmarks.report import tell_mistakes
from benchmarks.rig import running_bench
from benchmarks.servers import CUSTOMERS, ROOT, Bench, running_relay

REQUESTS = 960


@dataclass(frozen=True, slots=True)
class Variant:
    """
    Attributes:
        root: The checkout that is run.
        option: Of the address of Redis.
    """

    name: str
    root: Path
    option: str = ""


def main(variants: list[Variant], pairs: int) -> int:
    """Measure all *variants* in turn, and print what was found."""
    with running_bench() as bench, ExitStack() as stack:
        contenders = [started(bench, each, stack) for each in variants]
        compare(contenders, pairs)
        results = results_of(contenders)
    print_ratios(contenders)
    return tell_mistakes(results)


def started(bench: Bench, variant: Variant, stack: ExitStack) -> Contender:
    """Start *variant*, and let it see every customer once."""
    served = stack.enter_context(
        running_relay(
            bench, variant.name, redis_url=bench.redis_url + variant.option, root=variant.root
        )
    )
    loader = Loader(bench, served)
    loader.ask(CUSTOMERS)
    return Contender(variant.name, loader, REQUESTS)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    count = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 20
    compared = [
        Variant(name, Path(root).resolve())
        for name, root in (argument.split("=", 1) for argument in arguments)
    ]
    # With an option of redis-py's pool, Relay uses it.
    own = [Variant("pool", ROOT, "?max_connections=16"), Variant("multiplexed", ROOT)]
    sys.exit(main([*compared, *own], count))
