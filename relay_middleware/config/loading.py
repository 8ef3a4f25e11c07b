"""
From the YAML file and the environment to a `Config`, or to everything that is wrong with them.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType

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

_NONE: Mapping[KeyPath, Mistake] = MappingProxyType({})

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """
    What is to be said of a configuration.

    Attributes:
        config: None where there are mistakes.
        entries: Of `model_list`, those that are right in themselves, by their place in it.
        mistakes: What is wrong.
        unset: Variables that the environment should have, and has not; *config* then holds
            `os.environ/NAME` in their place.
        warnings: What is allowed, and dangerous.
        find: Tells where further mistakes stand, in the order of the file.
    """

    config: Config | None
    entries: Mapping[int, ModelEntry]
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
    settings = None
    if not isinstance(content, Mapping):
        mistakes.append(Mistake((), "must be a mapping: model_list, tiers, ..."))
        content = {}
    elif document.content is not None or not mistakes:
        content = _merged(content, _overrides(environ))
        settings, mistaken = _validated(content, unset)
        mistakes += mistaken
        wrong = [*disagreements(content), *_unknown_variables(environ)]
        # What could not be read from the environment is no wrong value on top of that.
        mistakes += [mistake for mistake in wrong if mistake.path not in unset]
        # Nor need it be set where the key itself is wrong.
        wrong_paths = {mistake.path for mistake in mistaken}
        unset = {path: each for path, each in unset.items() if not _is_below(path, wrong_paths)}

    variables = {_path_of(name): name for name in _variables(environ)}
    from_environment = document.from_environment | {each.path for each in document.unset}

    def find(these: Iterable[Mistake]) -> tuple[Finding, ...]:
        return located(these, line_by_path=document.line_by_path, variable_by_path=variables)

    config = None if mistakes or settings is None else to_config(settings)
    return Examined(
        config=config,
        entries=dict(_entries(content) if config is None else enumerate(config.model_list)),
        mistakes=find(mistakes),
        unset=find(unset.values()),
        warnings=find(dangers(content, from_environment | variables.keys())),
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


def _validated(
    content: Mapping[str, object], unset: Mapping[KeyPath, Mistake] = _NONE
) -> tuple[Settings | None, list[Mistake]]:
    """Return *content* as settings, or its mistakes; of a value in *unset*, that it is not set."""
    try:
        return Settings(**content), []  # type: ignore[arg-type]  # validating is what it does
    except ValidationError as error:
        found = error.errors(include_url=False)
        return None, [mistake for details in found for mistake in _mistakes(details, unset)]


def _is_below(path: KeyPath, others: Collection[KeyPath]) -> bool:
    return any(path[:length] in others for length in range(1, len(path) + 1))


def _entries(content: Mapping[str, object]) -> Iterator[tuple[int, ModelEntry]]:
    for i, item in enumerate(items(content.get("model_list"))):
        alone = {"model_list": [item], "tiers": {"any": {"models": [ALL_MODELS]}}}
        settings, _ = _validated({**alone, "prices": content.get("prices", {})})
        if settings is not None:
            yield i, to_config(settings).model_list[0]


def _mistakes(details: ErrorDetails, unset: Mapping[KeyPath, Mistake]) -> Iterator[Mistake]:
    path = details["loc"]
    match details["type"]:
        case "extra_forbidden":
            yield from refused(path, details["input"])
            return
        case _ if path in unset:
            yield unset[path]
            return
        case "missing":
            yield Mistake(path, f"is missing{_TO_WRITE.get(str(path[-1]), '')}")
            return
        case "value_error":
            message = str(details["ctx"]["error"])
        case "model_type" | "dict_type":
            message = "must be a mapping (key: value)"
        case "tuple_type" | "list_type":
            message = "must be a list ([a, b]; in an environment variable as JSON)"
        case "path_type":
            message = "must be a path"
        case _:
            message = details["msg"].replace("Input should", "must")
    yield Mistake(path, f"{_shown(details['input'], path)}{message}")


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
