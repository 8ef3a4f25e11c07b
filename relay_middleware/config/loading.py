"""
From the YAML file and the environment to a `Config`, or to everything that is wrong with them.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource
from typing_extensions import override

from relay_middleware.config.composing import to_config
from relay_middleware.config.dangers import dangers
from relay_middleware.config.document import read_document
from relay_middleware.config.mistakes import Finding, KeyPath, Mistake, located, nearest, report
from relay_middleware.config.references import ALL_MODELS, disagreements, items
from relay_middleware.config.refused_keys import refused
from relay_middleware.config.schema import CredentialsSection, Settings
from relay_middleware.config.values import Config, ModelEntry
from relay_middleware.errors import ConfigurationError

_PREFIX = "RELAY_"

_NO_SETTINGS = {"RELAY_CONFIG", "RELAY_REQUIRE"}
"""Read elsewhere: by the command line, and by the tests."""

_FROM_KUBERNETES = re.compile(r"RELAY_(.+_)?(SERVICE_(HOST|PORT)(_.+)?|PORT(_\d+_.+)?)")
"""What a pod finds in its environment when a service is called `relay` or `relay-redis`.
Source: Kubernetes, "Service", environment variables."""

_SECRETS = {"api_key", "redis_url", "database_url", *CredentialsSection.model_fields}

_TO_WRITE = {
    "model_list": "; write what clients may ask for, such as model_list: [{model_name: smart, "
    "litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY}}]",
    "tiers": '; write what customers may do, such as tiers: {free: {models: ["*"], spend_limits: '
    "[{cents: 50, per: day}]}} and customers: {default_tier: free}",
    "models": '; write the names that clients may ask for, or models: ["*"]',
    "model": "; write provider and model, such as openai/gpt-4o-mini",
    "model_name": "; write what clients ask for",
    "litellm_params": "; write where the model is served",
}
"""What is missing, by its last key, and how it is written."""

_LISTS = {"fallbacks": "[{smart: [smart-backup]}]", "spend_limits": "[{cents: 50, per: day}]"}
"""How a list is written, by its key, where its items are no plain values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """
    What is to be said of a configuration.

    Attributes:
        config: None where there are mistakes.
        entries: Of `model_list`, those that are right in themselves, or but for keys that are
            refused, by their place in it.
        incomplete: Of *entries*, those read without a key that is refused: they may lack a price.
        mistakes: What is wrong.
        unset: Variables that the environment should have, and has not; *config* then holds
            `os.environ/NAME` in their place.
        warnings: What is allowed, and dangerous.
        find: Tells where further mistakes stand, in the order of the file.
    """

    config: Config | None
    entries: Mapping[int, ModelEntry]
    incomplete: frozenset[int]
    mistakes: tuple[Finding, ...]
    unset: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    find: Callable[[Iterable[Mistake]], tuple[Finding, ...]] = field(repr=False)


def load_config(
    path: str | Path, environ: Mapping[str, str] | None = None, *, is_serving: bool = True
) -> Config:
    """
    Read the file at *path*; variables `RELAY_…` in *environ* (the process's own) win over it.

    Args:
        is_serving: Whether providers will be called. If not, what they need of the environment
            may be missing there.

    Raises:
        ConfigurationError: Names every mistake, with its line.
    """
    text = read_text(path)
    environment = os.environ if environ is None else environ
    return parse_config(text, str(path), environment, is_serving=is_serving)


def read_text(path: str | Path) -> str:
    """
    Return the content of the file at *path*.

    Raises:
        ConfigurationError: There is none, or none that can be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        if isinstance(error, FileNotFoundError):
            reason = f"{reason}; write it, or name another file"
        raise ConfigurationError(f"cannot read the configuration {path}: {reason}") from None


def parse_config(
    text: str, source: str, environ: Mapping[str, str], *, is_serving: bool = True
) -> Config:
    """
    Read the configuration *text*; *source* is what messages call it.

    Raises:
        ConfigurationError: Names every mistake, with its line.
    """
    examined = examine(text, environ)
    missing = [
        finding
        for finding in examined.unset
        if is_serving or not finding.place.startswith("model_list")
    ]
    if examined.config is None or missing:
        findings = sorted([*examined.mistakes, *missing], key=lambda finding: finding.line or 0)
        raise ConfigurationError(report(source, findings))
    return examined.config


def examine(text: str, environ: Mapping[str, str]) -> Examined:
    """
    Read the configuration *text*, and say all that there is to say of it. Never raises.
    """
    document = read_document(text, environ)
    content = {} if document.content is None else document.content
    mistakes = list(document.mistakes)
    unset = {mistake.path: mistake for mistake in document.unset}
    found = _Validated()
    if not isinstance(content, Mapping):
        mistakes.append(Mistake((), "must be a mapping: model_list, tiers, ..."))
        content = {}
    elif document.content is not None or not mistakes:
        content = _merged(content, _overrides(environ))
        found = _validated(content)
        # What could not be read from the environment is no wrong value on top of that.
        mistakes += [unset.get(mistake.path, mistake) for mistake in found.wrong]
        mistakes += found.refused
        wrong = [*disagreements(content), *_unknown_variables(environ)]
        mistakes += [mistake for mistake in wrong if mistake.path not in unset]

    variables = {_path_of(name): name for name in _variables(environ)}

    def find(these: Iterable[Mistake]) -> tuple[Finding, ...]:
        return located(these, line_by_path=document.line_by_path, variable_by_path=variables)

    # Nor need it be set where the key itself is wrong.
    told = {mistake.path for mistake in (*found.wrong, *found.refused)}
    entries, incomplete = _entries(content, unset)
    return Examined(
        config=None if mistakes or found.settings is None else to_config(found.settings),
        entries=entries,
        incomplete=incomplete,
        mistakes=find(mistakes),
        unset=find(_outside(document.unset, told)),
        warnings=find(
            dangers(content, document.from_environment | unset.keys() | variables.keys())
        ),
        find=find,
    )


class _Environment(EnvSettingsSource):
    """pydantic-settings' reader of variables, with exact numbers and without a way to fail."""

    @override
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: str) -> object:
        try:
            return json.loads(value, parse_float=Decimal)
        except ValueError:
            # A text where a list or mapping belongs: reported as such, under the variable's name.
            return value


def _overrides(environ: Mapping[str, str]) -> Mapping[str, object]:
    source = _Environment(Settings)
    source.env_vars = {name.lower(): environ[name] for name in _variables(environ)}
    return source()


def _merged(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    merged = dict(base)
    for name, value in over.items():
        # A variable's name has no case: RELAY_TIERS__PRO__... is also the tier `Pro`.
        key = next((key for key in base if key.lower() == name), name)
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = _merged(below, value)
        else:
            merged[key] = value
    return merged


@dataclass(frozen=True, slots=True, kw_only=True)
class _Validated:
    """
    What becomes of a tree.

    Attributes:
        settings: None where something is wrong or refused.
        wrong: Values that are.
        refused: Keys that Relay does not take.
    """

    settings: Settings | None = None
    wrong: tuple[Mistake, ...] = ()
    refused: tuple[Mistake, ...] = ()


def _validated(content: Mapping[str, object]) -> _Validated:
    try:
        return _Validated(settings=Settings(**content))  # type: ignore[arg-type]  # it validates
    except ValidationError as error:
        found = error.errors(include_url=False)
    unknown = [details for details in found if details["type"] == "extra_forbidden"]
    return _Validated(
        wrong=tuple(_mistake(details) for details in found if details not in unknown),
        refused=tuple(
            mistake for details in unknown for mistake in refused(details["loc"], details["input"])
        ),
    )


def _entries(
    content: Mapping[str, object], unset: Collection[KeyPath]
) -> tuple[dict[int, ModelEntry], frozenset[int]]:
    entries, incomplete = {}, set()
    for i, item in enumerate(items(content.get("model_list"))):
        alone = partial(_alone, prices=content.get("prices", {}))
        found = _validated(alone(item))
        # Below ("model_list", 0). Without its provider an entry would be another's.
        paths = [each.path[2:] for each in found.refused]
        if paths and not found.wrong and ("litellm_params", "custom_llm_provider") not in paths:
            incomplete.add(i)
            found = _validated(alone(_without(item, paths)))
        if found.settings and ("model_list", i, "litellm_params", "model") not in unset:
            entries[i] = to_config(found.settings).model_list[0]
    return entries, frozenset(incomplete)


def _alone(item: object, *, prices: object) -> Mapping[str, object]:
    return {"model_list": [item], "tiers": {"any": {"models": [ALL_MODELS]}}, "prices": prices}


def _without(value: object, paths: Collection[KeyPath]) -> object:
    """Return *value* without what stands at *paths* in it."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: _without(inner, [path[1:] for path in paths if path[:1] == (key,)])
        for key, inner in value.items()
        if (key,) not in paths
    }


def _outside(mistakes: Iterable[Mistake], paths: Collection[KeyPath]) -> Iterator[Mistake]:
    """Yield those of *mistakes* that are neither at nor below one of *paths*."""
    for mistake in mistakes:
        if not any(mistake.path[: len(path)] == path for path in paths):
            yield mistake


def _mistake(details: ErrorDetails) -> Mistake:
    path = details["loc"]
    match details["type"]:
        case "missing":
            return Mistake(path, f"is missing{_TO_WRITE.get(str(path[-1]), '')}")
        case "value_error":
            message = str(details["ctx"]["error"])
        case "model_type" | "dict_type":
            message = "must be a mapping (key: value)"
        case "tuple_type" | "list_type":
            example = _LISTS.get(str(path[-1]), "[a, b]")
            message = f"must be a list ({example}; in an environment variable as JSON)"
        case "path_type":
            message = "must be a path"
        case _:
            message = details["msg"].replace("Input should", "must")
    return Mistake(path, f"{_shown(details['input'], path)}{message}")


def _shown(value: object, path: KeyPath) -> str:
    if path[-1] in _SECRETS or isinstance(value, Mapping | list | tuple):
        return ""
    if value is None:
        return "(nothing) "
    text = ascii(value) if isinstance(value, str) else str(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} "  # noqa: PLR2004 - one line


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[Mistake]:
    for name in _variables(environ):
        path = _path_of(name)
        if path[0] not in Settings.model_fields:
            yield Mistake(path, f"is no setting; {nearest(str(path[0]), Settings.model_fields)}")


def _variables(environ: Mapping[str, str]) -> list[str]:
    return [
        name
        for name in environ
        if name.upper().startswith(_PREFIX)
        and name not in _NO_SETTINGS
        and not _FROM_KUBERNETES.fullmatch(name)
    ]


def _path_of(variable: str) -> KeyPath:
    return tuple(variable[len(_PREFIX) :].lower().split("__"))
