"""
What two places of the file must agree on.

Looks at the tree, not at validated values, so that these mistakes are reported beside those of
single values. What has not the right shape is passed over: `schema.py` reports it.
"""

from collections.abc import Iterator, Mapping, Sequence

from relay_middleware.config.mistakes import KeyPath, Mistake, nearest
from relay_middleware.config.schema import CredentialsSection

ALL_MODELS = "*"


def disagreements(content: Mapping[str, object]) -> Iterator[Mistake]:
    """Yield every mistake that lies in two places at once."""
    entries = items(content.get("model_list"))
    models = {name for entry in entries if isinstance(name := at(entry, "model_name"), str)}
    yield from _equal_deployments(entries)
    yield from _router(mapping(content.get("router_settings")), content, models)
    for name, tier in mapping(content.get("tiers")).items():
        yield from _tier(("tiers", name), mapping(tier), models)
    yield from _default_tier(mapping(content.get("customers")), mapping(content.get("tiers")))
    yield from _priced_models(mapping(content.get("prices")), entries)


def _equal_deployments(entries: Sequence[object]) -> Iterator[Mistake]:
    # Credentials too: the regions of a cloud are deployments of their own.
    keys = ("model", "api_base", "api_key", *CredentialsSection.model_fields)
    seen: list[object] = []
    for i, entry in enumerate(entries):
        params = mapping(at(entry, "litellm_params"))
        place = (at(entry, "model_name"), *(params.get(key) for key in keys))
        if place in seen and None not in place[:2]:
            message = (
                f"is the same deployment as model_list[{seen.index(place)}]: same model_name, "
                "model, address and credentials; remove one, or give one entry a larger weight"
            )
            yield Mistake(("model_list", i), message)
        seen.append(place)


def _router(
    router: Mapping[str, object], content: Mapping[str, object], models: set[str]
) -> Iterator[Mistake]:
    top: KeyPath = ("router_settings", "fallbacks")
    sources: set[str] = set()
    for i, item in enumerate(items(router.get("fallbacks"))):
        for source, targets in mapping(item).items():
            path = (*top, i, source)
            yield from _fallbacks_source(path, source, models)
            if source in sources:
                yield Mistake(path, "has fallbacks above already; put them into one list")
            sources.add(source)
            for j, target in enumerate(items(targets)):
                yield from _known_model((*path, j), target, models)
                if target == source:
                    yield Mistake((*path, j), f"{source!r} is its own fallback; remove it")
    if "timeout" in router and "non_stream_s" in mapping(content.get("timeouts")):
        message = "says the same as timeouts.non_stream_s; remove one of them"
        yield Mistake(("router_settings", "timeout"), message)


def _fallbacks_source(path: KeyPath, source: str, models: set[str]) -> Iterator[Mistake]:
    if source == ALL_MODELS and source not in models:
        yield Mistake(path, "stands for every model at LiteLLM; name each model with its fallbacks")
    else:
        yield from _known_model(path, source, models)


def _tier(path: KeyPath, tier: Mapping[str, object], models: set[str]) -> Iterator[Mistake]:
    allowed = items(tier.get("models"))
    for i, model in enumerate(allowed):
        if model != ALL_MODELS:
            yield from _known_model((*path, "models", i), model, models)
    default = tier.get("default_model")
    if default is not None:
        yield from _known_model((*path, "default_model"), default, models)
        if default in models and default not in allowed and ALL_MODELS not in allowed:
            message = f"{default!r} is not among the tier's models; add it there"
            yield Mistake((*path, "default_model"), message)
    yield from _periods((*path, "spend_limits"), items(tier.get("spend_limits")))
    if _number(tier, "default_output_tokens") > _number(tier, "max_output_tokens") > 0:
        message = (
            f"{tier['default_output_tokens']} is more than max_output_tokens, "
            f"{tier['max_output_tokens']}; lower it or raise the other"
        )
        yield Mistake((*path, "default_output_tokens"), message)


def _periods(path: KeyPath, spend_limits: Sequence[object]) -> Iterator[Mistake]:
    seen: set[str] = set()
    for i, item in enumerate(spend_limits):
        period = at(item, "per")
        if isinstance(period, str) and period in seen:
            message = f"there is a limit per {period} above already; keep one"
            yield Mistake((*path, i, "per"), message)
        seen.add(str(period))


def _default_tier(
    customers: Mapping[str, object], tiers: Mapping[str, object]
) -> Iterator[Mistake]:
    name = customers.get("default_tier")
    if isinstance(name, str) and name not in tiers:
        message = f"there is no tier {name!r}; {nearest(name, tiers)}"
        yield Mistake(("customers", "default_tier"), message)
    # Without tiers, what is said of those says this too.
    if name is None and tiers and customers.get("unknown", "create") == "create":
        message = (
            "is missing: the tier of customers that are created; name it, or set unknown: reject"
        )
        yield Mistake(("customers", "default_tier"), message)


def _priced_models(prices: Mapping[str, object], entries: Sequence[object]) -> Iterator[Mistake]:
    used = {str(at(at(entry, "litellm_params"), "model")) for entry in entries}
    for model in prices.keys() - used:
        message = f"no deployment has the litellm_params.model {model!r}; {nearest(model, used)}"
        yield Mistake(("prices", model), message)


def _known_model(path: KeyPath, model: object, models: set[str]) -> Iterator[Mistake]:
    if isinstance(model, str) and model not in models:
        yield Mistake(path, f"there is no model_name {model!r}; {nearest(model, models)}")


def at(value: object, key: str) -> object:
    """Return what *value* has under *key*, if it is a mapping that has it."""
    return mapping(value).get(key)


def mapping(value: object) -> Mapping[str, object]:
    """Return *value* if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> Sequence[object]:
    """Return *value* if it is a list, else an empty one."""
    return value if isinstance(value, list) else ()


def _number(mapping: Mapping[str, object], key: str) -> int:
    try:
        return int(str(mapping.get(key)))
    except ValueError:
        return 0
