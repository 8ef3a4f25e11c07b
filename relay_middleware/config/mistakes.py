"""
Mistakes of a configuration: collected, so that an operator sees all of them at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from typing_extensions import override

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys of mappings and places in sequences, from the top."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """
    One thing that is wrong.

    Attributes:
        path: Where; empty for the whole file.
        message: What, and the remedy; names the value unless that may be a secret.
    """

    path: KeyPath
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    A mistake, or a warning, where the operator finds it.

    Attributes:
        line: Of the file, from 1; None where it does not stand in the file.
        place: Key path, or the variable's name where the value came from the environment.
    """

    line: int | None
    place: str
    message: str

    @override
    def __str__(self) -> str:
        """Return it as a line for people."""
        where = self.place if self.line is None else f"line {self.line}: {self.place}"
        return f"{where}: {self.message}"


def located(
    mistakes: Iterable[Mistake],
    *,
    line_by_path: Mapping[KeyPath, int],
    variable_by_path: Mapping[KeyPath, str],
) -> tuple[Finding, ...]:
    """
    Return *mistakes* in the order of the file, each with the line of the nearest key that stands
    there.
    """
    found = sorted(
        {(_line_of(mistake.path, line_by_path), mistake) for mistake in mistakes},
        key=lambda pair: (pair[0], str(pair[1].path)),
    )
    return tuple(_found(mistake, line, variable_by_path) for line, mistake in found)


def report(source: str, findings: Sequence[Finding]) -> str:
    """Return what the operator is told: a line per mistake."""
    count = "a mistake" if len(findings) == 1 else f"{len(findings)} mistakes"
    return "\n".join([f"{source} has {count}:", *(f"  {finding}" for finding in findings)])


def nearest(word: str, known: Iterable[str]) -> str:
    """
    Return the rest of a sentence about an unknown *word*: the one it is close to, or all *known*.
    """
    names = sorted(known)
    if close := get_close_matches(word, names, n=1):
        return f"did you mean {close[0]!r}?"
    return f"there is {', '.join(names)}" if names else "there is none"


def _found(mistake: Mistake, line: int, variable_by_path: Mapping[KeyPath, str]) -> Finding:
    path = mistake.path
    for length in range(len(path), 0, -1):
        if variable := variable_by_path.get(path[:length]):
            rest = _dotted(path[length:]).lstrip(".")
            place = f"{variable} ({rest})" if rest else variable
            return Finding(line=None, place=place, message=mistake.message)
    place = _dotted(path).lstrip(".") or "the file"
    return Finding(line=line or None, place=place, message=mistake.message)


def _line_of(path: KeyPath, line_by_path: Mapping[KeyPath, int]) -> int:
    lengths = range(len(path), 0, -1)
    return next((line_by_path[path[:n]] for n in lengths if path[:n] in line_by_path), 0)


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
