"""
The YAML file as a tree of plain values that remembers its lines.

Stricter than YAML where YAML loses money or meaning: a number with a point stays the decimal that
is written there, keys are text (`on:` is no boolean), and a key that stands twice is a mistake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import yaml

from relay_middleware.config.mistakes import KeyPath, Mistake

ENVIRONMENT = "os.environ/"
"""LiteLLM's own notation for a value that is read from the environment. Where the variable is not
set the text stays, and `Document.unset` says so: the schema takes it for any URL."""

_MAX_DEPTH = 32
"""Deepest nesting that is read: our own is 6, and an alias may contain itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """
    A file that was read.

    Attributes:
        content: Mappings, lists, texts, integers, decimals, booleans and None.
        line_by_path: Line of every key and item, counted from 1.
        mistakes: What is wrong with the file as YAML; then *content* is incomplete.
        unset: Values that the environment should have, and has not.
        from_environment: Where values stand that it had.
    """

    content: object
    line_by_path: Mapping[KeyPath, int]
    mistakes: tuple[Mistake, ...]
    unset: tuple[Mistake, ...]
    from_environment: frozenset[KeyPath]


def read_document(text: str, environ: Mapping[str, str]) -> Document:
    """
    Read *text*, with `os.environ/NAME` replaced by the value of NAME in *environ*.
    """
    reader = _Reader(environ)
    try:
        content = reader.read(text)
    except yaml.YAMLError as error:
        content = None
        reader.mistakes.append(Mistake((), f"this is not YAML: {_one_line(error)}"))
    except RecursionError:
        content = None
        reader.mistakes.append(Mistake((), "is nested too deeply"))
    return Document(
        content=content,
        line_by_path=reader.line_by_path,
        mistakes=tuple(reader.mistakes),
        unset=tuple(reader.unset),
        from_environment=frozenset(reader.from_environment),
    )


class _Loader(yaml.SafeLoader):
    """YAML's own, but exact."""


def _exact_decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal | float:
    try:
        return Decimal(node.value)
    except ArithmeticError:
        # `.inf`, `.nan` and base 60: no setting takes them, and the schema says so.
        return loader.construct_yaml_float(node)


def _plain_integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    # YAML 1.1 reads 010 as 8 and 1:30 as 90. Text is refused where a number is wanted.
    try:
        return int(node.value)
    except ValueError:
        return str(node.value)


def _plain_text(_: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:float", _exact_decimal)
_Loader.add_constructor("tag:yaml.org,2002:int", _plain_integer)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _plain_text)


class _Reader:
    """Walks YAML's nodes, which know their lines; its values do not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.line_by_path: dict[KeyPath, int] = {}
        self.mistakes: list[Mistake] = []
        self.unset: list[Mistake] = []
        self.from_environment: set[KeyPath] = set()

    def read(self, text: str) -> object:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else self._value(loader, node, ())
        finally:
            loader.dispose()

    def _value(self, loader: _Loader, node: yaml.Node, path: KeyPath) -> object:
        if len(path) > _MAX_DEPTH:
            self.mistakes.append(Mistake(path[:3], "is nested too deeply"))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._child(loader, item, (*path, i)) for i, item in enumerate(node.value)]
        value: object = loader.construct_object(node)
        return self._from_environment(value, path) if isinstance(value, str) else value

    def _mapping(self, loader: _Loader, node: yaml.MappingNode, path: KeyPath) -> object:
        if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
            message = (
                "has a mapping or a list for a key, as {{NAME}} is to YAML; fill the template in "
                "first, or write os.environ/NAME"
            )
            self.mistakes.append(Mistake(path, message))
            return None
        seen: set[str] = set()
        for key, _ in node.value:
            # Before `<<` is merged in: a key beside it overrides, which is what merging is for.
            if key.value in seen:
                self.line_by_path.setdefault((*path, key.value), key.start_mark.line + 1)
                self.mistakes.append(Mistake((*path, key.value), "stands twice; keep one"))
            seen.add(str(key.value))
        loader.flatten_mapping(node)
        return {
            str(key.value): self._child(loader, value, (*path, str(key.value)), key)
            for key, value in node.value
        }

    def _child(
        self, loader: _Loader, node: yaml.Node, path: KeyPath, key: yaml.Node | None = None
    ) -> object:
        self.line_by_path.setdefault(path, (key or node).start_mark.line + 1)
        return self._value(loader, node, path)

    def _from_environment(self, text: str, path: KeyPath) -> str:
        if not text.startswith(ENVIRONMENT):
            return text
        name = text.removeprefix(ENVIRONMENT)
        value = self._environ.get(name)
        if value:
            self.from_environment.add(path)
            return value
        state = "is empty" if value == "" else "is not set"
        self.unset.append(Mistake(path, f"the environment variable {name} {state}; set it"))
        return text


def _one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return " ".join(str(error).split())
