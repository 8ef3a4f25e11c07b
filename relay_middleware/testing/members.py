"""
Members: read a request's JSON and refuse what a provider would refuse, in its words.
"""

from collections.abc import Mapping, Sequence

import orjson

from relay_middleware.testing.reply import RefusedError

JsonObject = Mapping[str, object]

_NAME_BY_TYPE: Mapping[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a decimal number",
    bool: "a boolean",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def body_of(body: bytes) -> JsonObject:
    """
    Decode a request's body.

    Raises:
        RefusedError: It is no JSON object.
    """
    try:
        decoded: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise RefusedError(
            "We could not parse the JSON body of your request. The simulated provider expects a"
            " JSON object."
        )
    return decoded


def string(body: JsonObject, name: str) -> str:
    """
    Return the required member *name*.

    Raises:
        RefusedError: It is missing, empty or no string.
    """
    value = _required(body, name)
    if not isinstance(value, str) or not value:
        raise _wrong_type(name, "a string", value)
    return value


def boolean(body: JsonObject, name: str) -> bool:
    """
    Return the member *name*, False if it is missing or null.

    Raises:
        RefusedError: It is no boolean.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong_type(name, "a boolean", value)
    return bool(value)


def integer(body: JsonObject, name: str, *, least: int, most: int) -> int | None:
    """
    Return the member *name*, None if it is missing or null.

    Raises:
        RefusedError: It is no integer from *least* to *most*.
    """
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(name, "an integer", value)
    if not least <= value <= most:
        code = "integer_below_min_value" if value < least else "integer_above_max_value"
        raise RefusedError(
            f"Invalid '{name}': expected a value from {least} to {most}, but got {value} instead.",
            code=code,
            param=name,
        )
    return value


def objects(body: JsonObject, name: str, *, required: bool = False) -> Sequence[JsonObject]:
    """
    Return the member *name*, an array of objects; empty if it is missing or null.

    Args:
        required: Whether it must be there and not be empty.

    Raises:
        RefusedError: It is something else.
    """
    value = _required(body, name) if required else body.get(name) or []
    if not isinstance(value, list):
        raise _wrong_type(name, "an array of objects", value)
    if required and not value:
        raise RefusedError(
            f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an"
            " empty array instead.",
            code="empty_array",
            param=name,
        )
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise _wrong_type(f"{name}[{index}]", "an object", item)
    return value


def strings(body: JsonObject, name: str) -> tuple[str, ...]:
    """
    Return the member *name*, a string or an array of strings; empty if it is missing or null.

    Raises:
        RefusedError: It is something else.
    """
    value = body.get(name)
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise _wrong_type(name, "a string or an array of strings", value)
    return tuple(given)


def messages(body: JsonObject) -> Sequence[JsonObject]:
    """
    Return the messages of a request, each with a role.

    Raises:
        RefusedError: There are none, or one has no role.
    """
    found = objects(body, "messages", required=True)
    for index, message in enumerate(found):
        if "role" not in message:
            raise _missing(f"messages[{index}].role")
        if not isinstance(message["role"], str):
            raise _wrong_type(f"messages[{index}].role", "a string", message["role"])
    return found


def wrong_value(name: str, expected: str) -> RefusedError:
    """Return the refusal of a member that is not what was *expected*."""
    return RefusedError(f"Invalid '{name}': expected {expected}.", code="invalid_value", param=name)


def _required(body: JsonObject, name: str) -> object:
    if body.get(name) is None:
        raise _missing(name)
    return body[name]


def _missing(name: str) -> RefusedError:
    return RefusedError(
        f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name
    )


def _wrong_type(name: str, expected: str, value: object) -> RefusedError:
    return RefusedError(
        f"Invalid type for '{name}': expected {expected}, but got"
        f" {_NAME_BY_TYPE.get(type(value), 'another type')} instead.",
        code="invalid_type",
        param=name,
    )
