"""
Samples: the smallest value that fits a JSON schema, for tools and structured answers.

Enough of JSON Schema for what applications send: types, required members, enumerations, constants,
alternatives and references inside the schema. Formats, patterns and ranges are not looked at.
"""

from collections.abc import Mapping

# A schema may refer to itself; real ones are shallower.
_MAX_DEPTH = 16

_SAMPLE_BY_TYPE: Mapping[object, object] = {
    "string": "simulated",
    "integer": 0,
    "number": 0,
    "boolean": True,
    "array": [],
    "null": None,
}


def sample(schema: object) -> object:
    """
    Return a value, the same for the same *schema*, that has its required members and types.

    What is no schema, or says nothing of the type, gets an empty object.
    """
    return _sample(schema, schema, 0)


def _sample(schema: object, root: object, depth: int) -> object:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return {}
    if "const" in schema:
        return schema["const"]
    for choice in ("enum", "anyOf", "oneOf", "allOf"):
        options = schema.get(choice)
        if isinstance(options, list) and options:
            return options[0] if choice == "enum" else _sample(options[0], root, depth + 1)
    if isinstance(reference := schema.get("$ref"), str):
        return _sample(_resolve(reference, root), root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        kind = kind[0]
    if isinstance(kind, str) and kind in _SAMPLE_BY_TYPE:
        return _SAMPLE_BY_TYPE[kind]
    return _object(schema, root, depth)


def _object(schema: Mapping[str, object], root: object, depth: int) -> dict[str, object]:
    required, properties = schema.get("required"), schema.get("properties")
    if not isinstance(required, list) or not isinstance(properties, Mapping):
        return {}
    return {
        name: _sample(properties.get(name), root, depth + 1)
        for name in required
        if isinstance(name, str)
    }


def _resolve(reference: str, root: object) -> object:
    """Follow a reference such as `#/$defs/Address`."""
    found = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        if name and isinstance(found, Mapping):
            found = found.get(name)
    return found
