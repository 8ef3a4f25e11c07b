"""
Members of a request's body: checked where they are read, in words that name them.
"""

from collections.abc import Iterable, Iterator, Mapping

from relay_middleware.core.endpoints.forbidden import FORBIDDEN_MEMBERS
from relay_middleware.core.refusals import RefusedError, invalid_request

JsonObject = Mapping[str, object]

MAX_COUNT = 2**31 - 1
"""Largest whole number accepted: what a provider's 32-bit integer takes."""


MAX_NESTING = 200
"""Deepest nesting of arrays and objects accepted. orjson reads 1,023 levels and writes 253."""


MAX_VALUES = 500_000
"""Most values of a body. The longest lists of tokens that OpenAI embeds have 300,000 in all."""

MAX_CONTAINERS = 100_000
"""Most objects and arrays among them: a conversation of 5,000 turns with tools has a third of it.
All that a body holds is looked at before anybody knows whether its sender may spend anything; so
many take 0.2 to 0.3 s, in which nobody else is served (measured)."""


def has_too_many_values(body: bytes) -> bool:
    """Say whether the JSON *body* holds more than `MAX_VALUES` or `MAX_CONTAINERS`."""
    # In texts too: cheap, and enough for nearly all that come.
    if not _is_too_much(body):
        return False
    # A quote that is left begins or ends a text.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two texts, a name and a value, take a comma or a bracket at least.
    if bare.count(b'"') > 4 * MAX_VALUES:
        return True
    return _is_too_much(b"".join(bare.split(b'"')[::2]))


def _is_too_much(text: bytes) -> bool:
    containers = text.count(b"[") + text.count(b"{")
    return containers > MAX_CONTAINERS or containers + text.count(b",") > MAX_VALUES


def is_nested_too_deeply(value: object) -> bool:
    """
    Say whether *value* has more than `MAX_NESTING` levels. Does not recurse.
    """
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def accepted(body: object) -> JsonObject:
    """
    Return *body*, which is to be a JSON object without routes and credentials.

    Raises:
        RefusedError: 400, it is something else.
    """
    if not isinstance(body, dict):
        raise RefusedError(invalid_request("The body must be a JSON object.", code="invalid_type"))
    if not FORBIDDEN_MEMBERS.isdisjoint(body):
        name = next(name for name in body if name in FORBIDDEN_MEMBERS)
        raise RefusedError(
            invalid_request(
                f"{name} is not accepted from clients: routes and credentials are the "
                "operator's. Leave it out.",
                param=name,
                code="forbidden_parameter",
            )
        )
    return body


def wrong_type(param: str, expected: str) -> RefusedError:
    """Return the refusal of a member that is not *expected*, such as `a whole number`."""
    return RefusedError(
        invalid_request(f"{param} must be {expected}.", param=param, code="invalid_type")
    )


def text(body: JsonObject, name: str) -> str | None:
    """
    Return the text *name*; None where it is absent or null.

    Raises:
        RefusedError: It is something else, or empty.
    """
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, "a text")
    if not value:
        raise RefusedError(invalid_request(f"{name} must not be empty.", param=name))
    return value


def flag(body: JsonObject, name: str) -> bool:
    """
    Return the truth value *name*; False where it is absent or null.

    Raises:
        RefusedError: It is something else.
    """
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong_type(name, "true or false")
    return value


def positive(body: JsonObject, name: str, *, at_most: int = MAX_COUNT) -> int | None:
    """
    Return the whole number *name*, from 1 to *at_most*; None where it is absent or null.

    Raises:
        RefusedError: It is something else.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, "a whole number")
    if not 1 <= value <= at_most:
        raise RefusedError(
            invalid_request(f"{name} is {value}; it must be 1 to {at_most}.", param=name)
        )
    return value


def mapping(body: JsonObject, name: str) -> JsonObject:
    """
    Return the object *name*; an empty one where it is absent or null.

    Raises:
        RefusedError: It is something else.
    """
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise wrong_type(name, "an object")
    return value


def objects(body: JsonObject, name: str) -> list[JsonObject]:
    """
    Return the list of objects *name*; an empty one where it is absent or null.

    Raises:
        RefusedError: It is something else, or holds something else.
    """
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise wrong_type(name, "a list of objects")
    return value


def texts(value: object) -> Iterator[str]:
    """Yield every name, text and number in *value*, however deep."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif value is not None:
        yield str(value)


_CONTAINERS = (dict, list)
"""What a JSON decoder makes of objects and arrays."""


def named(value: object, name: str) -> Iterator[object]:
    """Yield the members *name* of all objects in *value*, however deep, that are not null."""
    # All of a body is looked through, for everyone who sends one: its texts and numbers in one go.
    inside = [value]
    while inside:
        outer = inside.pop()
        if isinstance(outer, dict):
            if outer.get(name) is not None:
                yield outer[name]
            inside += [inner for inner in outer.values() if isinstance(inner, _CONTAINERS)]
        elif isinstance(outer, list):
            inside += [inner for inner in outer if isinstance(inner, _CONTAINERS)]
