"""
Schemas of a client's tools and answers, before LiteLLM replaces their references.

For some providers it puts in the place of each `$ref` what that points to, without a bound. Of
definitions that each point to the next one twice 2 KB become gigabytes, and of three that point to
each other as much, while nobody else is served.

Source: LiteLLM 1.106.2, `llms/vertex_ai/common_utils.py`, `_build_vertex_schema`, and
`litellm_core_utils/prompt_templates/factory.py`, `add_cache_point_tool_block` and its neighbours:
both take the schema's own `$defs` out, and leave all other definitions where they are.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

import orjson

MAX_BYTES = 400_000
"""Of all schemas that have definitions, once their references are replaced: a tenth of a second of
LiteLLM's. Tools have some thousands."""

MAX_COPIES = 5_000_000
"""Definitions times objects of one schema: for each object LiteLLM copies the list of all
definitions."""

_MARKS = (b'"$defs":', b'"definitions":')


class Unpack(Protocol):
    """LiteLLM's `unpack_defs`, which replaces references in place."""

    def __call__(
        self, schema: dict[str, object], defs: object, max_inlined_bytes: int | None = None
    ) -> None:
        """Raise ValueError where it comes to more."""
        ...


def expand_too_far(keywords: Mapping[str, object], unpack: Unpack) -> bool:
    """
    Say whether the schemas in the arguments *keywords* come to too much.

    Raises whatever *unpack* stumbles over: no schema.
    """
    left_bytes = MAX_BYTES
    for schema in _schemas(keywords):
        data = orjson.dumps(schema)
        if not any(mark in data for mark in _MARKS):
            # Nothing that a reference could be found in.
            continue
        if data.count(b"{") * _count_definitions(schema) > MAX_COPIES:
            return True
        copy = orjson.loads(data)
        try:
            unpack(copy, copy.pop("$defs", {}), max_inlined_bytes=left_bytes)
        except ValueError:
            return True
        left_bytes -= len(orjson.dumps(copy))
        if left_bytes < 0:
            return True
    return False


def _schemas(keywords: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for tool in (*_items(keywords.get("tools")), *_items(keywords.get("functions"))):
        yield from _mappings(tool, "parameters", "input_schema")
        for function in _mappings(tool, "function", "custom"):
            yield from _mappings(function, "parameters", "input_schema")
    form = keywords.get("response_format")
    yield from _mappings(form, "schema", "response_schema")
    for named in _mappings(form, "json_schema"):
        yield from _mappings(named, "schema")


def _mappings(outer: object, *names: str) -> Iterator[Mapping[str, object]]:
    if isinstance(outer, Mapping):
        yield from (value for name in names if isinstance(value := outer.get(name), Mapping))


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _count_definitions(schema: Mapping[str, object]) -> int:
    """All that are in force anywhere."""
    found = 0
    left: list[object] = [schema]
    while left:
        node = left.pop()
        if isinstance(node, Mapping):
            found += sum(len(each) for each in _mappings(node, "$defs", "definitions"))
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)
    return found
