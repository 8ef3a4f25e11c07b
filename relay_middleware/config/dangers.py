"""
What a file may say, and its operator should know to be dangerous.

Looks at the tree, as `references.py` does; what has not the right shape is passed over.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from relay_middleware.config.mistakes import KeyPath, Mistake
from relay_middleware.config.references import at, items, mapping
from relay_middleware.core.attribution import TRUSTED_HEADER

_SECRET_PARAMS = (
    "api_key",
    "aws_secret_access_key",
    "aws_session_token",
    "azure_ad_token",
    "azure_password",
    "client_secret",
    "vertex_credentials",
)

_LONGEST_DUMMY = 12
"""Characters of a key that is none: servers of one's own take `none` or `EMPTY`."""

_PASSWORD = re.compile(r"://[^/@]*:[^/@]+@")

_SHELL_VARIABLE = re.compile(r"\$(?:\{([A-Z_][A-Z0-9_]*)[^}]*\}|([A-Z_][A-Z0-9_]*))")
"""`$NAME`, `${NAME}` and `${NAME:-default}`, which a shell would fill in, and YAML does not. In
capitals only: what is printed is a name, and no password that begins with a dollar."""


def dangers(
    content: Mapping[str, object], from_environment: Collection[KeyPath]
) -> Iterator[Mistake]:
    """Yield a warning for each; *from_environment* is where values stand that came from there."""
    customers = mapping(content.get("customers"))
    default_tier = customers.get("default_tier")
    tiers = mapping(content.get("tiers"))
    if default_tier in tiers and customers.get("unknown", "create") == "create":
        tier = mapping(tiers[str(default_tier)])
        if not items(tier.get("spend_limits")):
            message = (
                "is the default tier and has no spend_limits: whoever names a new customer spends "
                "without end; set one, or customers.unknown: reject"
            )
            yield Mistake(("tiers", str(default_tier)), message)
    for name, members in tiers.items():
        yield from _open_beside_limits(("tiers", name), mapping(members))
    if customers.get("trust_header") is True:
        yield Mistake(("customers", "trust_header"), TRUSTED_HEADER)
    yield from _without_weight(items(content.get("model_list")))
    for path, text in _texts(content):
        if path in from_environment:
            continue
        if variable := _SHELL_VARIABLE.fullmatch(text):
            name = variable[1] or variable[2]
            yield Mistake(path, f"${name} is taken as it stands; write os.environ/{name}")
        elif _is_secret(path, text):
            yield Mistake(path, "is a secret in clear text; write os.environ/NAME")


def _open_beside_limits(path: KeyPath, tier: Mapping[str, object]) -> Iterator[Mistake]:
    if tier.get("on_outage") == "open" and items(tier.get("spend_limits")):
        message = (
            "is open beside spend_limits: while limits cannot be checked, each of the tier's "
            "customers spends without end; remove it, or write closed"
        )
        yield Mistake((*path, "on_outage"), message)


def _without_weight(entries: Sequence[object]) -> Iterator[Mistake]:
    # Beside a weight, none is 0. Source: LiteLLM 1.106.2, `router_strategy/simple_shuffle.py`.
    weighed = {_group(entry) for entry in entries if _weight(entry) is not None}
    for i, entry in enumerate(entries):
        if _weight(entry) is None and _group(entry) in weighed:
            message = (
                "has no weight, and an alternative has one: it is called only where that fails; "
                "give each a weight"
            )
            yield Mistake(("model_list", i, "litellm_params"), message)


def _weight(entry: object) -> object:
    return at(at(entry, "litellm_params"), "weight")


def _group(entry: object) -> tuple[str, str]:
    """Say which entries are alternatives of *entry*: those of the same model and order."""
    return str(at(entry, "model_name")), str(at(at(entry, "litellm_params"), "order"))


def _texts(content: Mapping[str, object]) -> Iterator[tuple[KeyPath, str]]:
    """Yield what may be a secret or an address, with its place."""
    for i, entry in enumerate(items(content.get("model_list"))):
        for name, value in mapping(at(entry, "litellm_params")).items():
            yield ("model_list", i, "litellm_params", name), str(value)
    for name in ("redis_url", "database_url"):
        yield (name,), str(content.get(name))


def _is_secret(path: KeyPath, text: str) -> bool:
    if len(path) == 1:
        return _PASSWORD.search(text) is not None
    return path[-1] in _SECRET_PARAMS and len(text) > _LONGEST_DUMMY
