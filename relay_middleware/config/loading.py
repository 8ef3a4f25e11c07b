"""
From the YAML file and the environment to a `Config`, or to everything that is wrong with them.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource
from typing_extensions import override

from relay_middleware.config.composing import to_config
from relay_middleware.config.document import read_document
from relay_middleware.config.mistakes import KeyPath, Mistake, nearest, report
from relay_middleware.config.references import disagreements
from relay_middleware.config.refused_keys import why_refused
from relay_middleware.config.schema import Settings
from relay_middleware.config.values import Config
from relay_middleware.errors import ConfigurationError

_PREFIX = "RELAY_"

_NO_SETTINGS = {"RELAY_CONFIG", "RELAY_REQUIRE"}
"""Read elsewhere: by the command line, and by the tests."""

_FROM_KUBERNETES = re.compile(r"RELAY_(.+_)?(SERVICE_(HOST|PORT)(_.+)?|PORT(_\d+_.+)?)")
"""What a pod finds in its environment when a service is called `relay` or `relay-redis`.
Source: Kubernetes, "Service", environment variables."""

_SECRETS = {"api_key", "redis_url", "database_url"}


def load_config(path: str | Path, environ: Mapping[str, str] | None = None) -> Config:
    """
    Read the file at *path*; variables `RELAY_…` in *environ* (the process's own) win over it.

    Raises:
        ConfigurationError: Names every mistake, with its line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"cannot read the configuration {path}: {reason}") from None
    return parse_config(text, str(path), os.environ if environ is None else environ)


def parse_config(text: str, source: str, environ: Mapping[str, str]) -> Config:
    """
    Read the configuration *text*; *source* is what messages call it.

    Raises:
        ConfigurationError: Names every mistake, with its line.
    """
    document = read_document(text, environ)
    content = {} if document.content is None else document.content
    mistakes = list(document.mistakes)
    settings = None
    if not isinstance(content, Mapping):
        mistakes.append(Mistake((), "must be a mapping: model_list, tiers, ..."))
    elif document.content is not None or not mistakes:
        content = _merged(content, _overrides(environ))
        settings, wrong_values = _validated(content)
        wrong = [*wrong_values, *disagreements(content), *_unknown_variables(environ)]
        # What could not be read from the environment is no wrong value on top of that.
        unread = {mistake.path for mistake in document.mistakes}
        mistakes += [mistake for mistake in wrong if mistake.path not in unread]
    if mistakes or settings is None:
        message = report(
            source,
            mistakes,
            line_by_path=document.line_by_path,
            variable_by_path={_path_of(name): name for name in _variables(environ)},
        )
        raise ConfigurationError(message)
    return to_config(settings)


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


def _validated(content: Mapping[str, object]) -> tuple[Settings | None, list[Mistake]]:
    try:
        return Settings(**content), []  # type: ignore[arg-type]  # validating is what it does
    except ValidationError as error:
        return None, [_mistake(details) for details in error.errors(include_url=False)]


def _mistake(details: ErrorDetails) -> Mistake:
    path = details["loc"]
    match details["type"]:
        case "extra_forbidden":
            return Mistake(path, why_refused(path))
        case "missing":
            return Mistake(path, "is missing")
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
