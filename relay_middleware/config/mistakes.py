"""
Mistakes of a configuration: collected, so that an operator sees all of them at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

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


def report(
    source: str,
    mistakes: Iterable[Mistake],
    *,
    line_by_path: Mapping[KeyPath, int],
    variable_by_path: Mapping[KeyPath, str],
) -> str:
    """
    Return what the operator is told: one line per mistake, in the order of the file.

    A value that came from the environment is reported under its variable's name, any other with its
    key path and the line of the nearest key that stands in the file.
    """
    found = sorted(
        {(_line_of(mistake.path, line_by_path), mistake) for mistake in mistakes},
        key=lambda pair: (pair[0], str(pair[1].path)),
    )
    lines = [
        f"  {_place(mistake.path, line, variable_by_path)}: {mistake.message}"
        for line, mistake in found
    ]
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return "\n".join([f"{source} has {count}:", *lines])


def nearest(word: str, known: Iterable[str]) -> str:
    """
    Return the rest of a sentence about an unknown *word*: the one it is close to, or all *known*.
    """
    names = sorted(known)
    if close := get_close_matches(word, names, n=1):
        return f"did you mean {close[0]!r}?"
    return f"there is {', '.join(names)}" if names else "there is none"


def _place(path: KeyPath, line: int, variable_by_path: Mapping[KeyPath, str]) -> str:
    for length in range(len(path), 0, -1):
        if variable := variable_by_path.get(path[:length]):
            rest = _dotted(path[length:])
            return f"{variable} ({rest.lstrip('.')})" if rest else variable
    where = _dotted(path).lstrip(".") or "the file"
    return f"line {line}: {where}" if line else where


def _line_of(path: KeyPath, line_by_path: Mapping[KeyPath, int]) -> int:
    lengths = range(len(path), 0, -1)
    return next((line_by_path[path[:n]] for n in lengths if path[:n] in line_by_path), 0)


def _dotted(path: KeyPath) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
