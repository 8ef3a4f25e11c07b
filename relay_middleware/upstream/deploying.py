"""
From the configuration's `model_list` to deployments, priced.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec

from relay_middleware.config.mistakes import Mistake, located, report
from relay_middleware.config.values import ModelEntry
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.errors import ConfigurationError
from relay_middleware.upstream.dialects import (
    authorization_of,
    dialect_of,
    is_direct,
    is_openais,
    url_of,
)
from relay_middleware.upstream.prices import PriceTable, place_of, resolve_price
from relay_middleware.upstream.targets import target_of
from relay_middleware.upstream.tokenizer import encoding_of

CAPPED_REASONING = frozenset(
    {"anthropic", "azure", "bedrock", "deepseek", "gemini", "vertex_ai", "vertex_ai_beta"}
)
"""Translated providers whose output cap bounds the reasoning too.

Source, all read 2026-11-23: Anthropic, "Extended thinking" (`max_tokens` includes the thinking);
Microsoft, "Azure OpenAI reasoning models" (`max_completion_tokens`); AWS, "Extended thinking" of
Bedrock's Claude; DeepSeek, "Reasoning model" (`max_tokens` includes the chain of thought); Google,
"Gemini thinking" (`maxOutputTokens` includes thoughts).
"""


_PACKAGE_BY_PROVIDER: Mapping[str, tuple[str, str]] = {
    "vertex_ai": ("google.auth", "google-auth"),
    "vertex_ai_beta": ("google.auth", "google-auth"),
}
"""What LiteLLM signs calls with that Relay does not install: its module, and what pip calls it."""


_SERVED_MODES = frozenset({None, "chat", "completion", "responses", "embedding"})
"""What the price table says a model is for, where it writes text or makes embeddings. LiteLLM calls
those of `completion` and `responses` for a chat too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentPlan:
    """
    What becomes of a `model_list`.

    Attributes:
        deployments: In the order of the list, without those that have a mistake.
        mistakes: Why an entry cannot be served.
        warnings: What its operator should know.
    """

    deployments: tuple[Deployment, ...]
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]

    def checked(self) -> tuple[Deployment, ...]:
        """
        Return the deployments, which are all that the list asks for.

        Raises:
            ConfigurationError: Names every mistake.
        """
        if self.mistakes:
            found = located(self.mistakes, line_by_path={}, variable_by_path={})
            raise ConfigurationError(report("the configuration", found))
        return self.deployments


def plan_deployments(
    entries: Mapping[int, ModelEntry], table: PriceTable, *, is_known: Callable[[str], bool]
) -> DeploymentPlan:
    """
    Plan what serves *entries*. Never raises: mistakes and warnings are collected.

    Args:
        entries: By their place in the `model_list`, ascending.
        is_known: Says whether LiteLLM knows a provider of that name.
    """
    seen: Counter[str] = Counter()
    deployments, mistakes, warnings = [], [], []
    for index, entry in entries.items():
        path = ("model_list", index, "litellm_params")
        seen[entry.model_name] += 1
        try:
            deployment, warning = _deploy(entry, seen[entry.model_name], table)
            _require_served(deployment, is_known)
        except ConfigurationError as error:
            mistakes.append(Mistake(path, str(error)))
            continue
        deployments.append(deployment)
        told = [warning, _unpriced(deployment, entry), _without_package(deployment)]
        warnings += [Mistake(path, text) for text in told if text is not None]
    return DeploymentPlan(
        deployments=tuple(deployments), mistakes=tuple(mistakes), warnings=tuple(warnings)
    )


def _require_served(deployment: Deployment, is_known: Callable[[str], bool]) -> None:
    if deployment.is_translated:
        if is_known(deployment.provider):
            return
        raise ConfigurationError(
            f"{deployment.model}: there is no provider {deployment.provider!r}; write it as"
            " LiteLLM does (anthropic/..., gemini/..., bedrock/...), or as openai/... with an"
            " api_base for a server that speaks OpenAI's wire"
        )
    if deployment.api_base is None and dialect_of(deployment).base_url is None:
        raise ConfigurationError(
            f"{deployment.model}: {deployment.provider} is a server of your own; say where it"
            " listens with api_base (http://127.0.0.1:8000/v1)"
        )
    if deployment.credentials:
        raise ConfigurationError(
            f"{deployment.model}: {deployment.provider} takes api_key and api_base alone; remove"
            f" {', '.join(sorted(deployment.credentials))}"
        )
    try:
        target_of(url_of(deployment, "chat/completions"), authorization_of(deployment))
    except ValueError as error:
        raise ConfigurationError(
            f"{deployment.model}: {error}; correct api_base or api_key"
        ) from None


def _require_text(entry: ModelEntry, mode: object) -> None:
    if mode not in _SERVED_MODES:
        raise ConfigurationError(
            f"{entry.model_name}: {entry.litellm_params.model} is for {mode}, says the price table;"
            " Relay serves chat and embeddings: remove the entry, or write model_info: {mode: chat}"
            " if it is for that"
        )


def _unpriced(deployment: Deployment, entry: ModelEntry) -> str | None:
    if deployment.price is not None:
        return None
    # At Azure an operator names his deployments himself.
    named = ", or name the model behind it in model_info.base_model"
    return (
        f"{deployment.model}: {entry.litellm_params.model} has no known price; it is refused to"
        " customers with a spend limit, and costs others nothing. Set one under prices"
        f"{named if deployment.provider == 'azure' else ''}."
    )


def _without_package(deployment: Deployment) -> str | None:
    module, package = _PACKAGE_BY_PROVIDER.get(deployment.provider, ("relay_middleware", ""))
    if _is_installed(module):
        return None
    return f"{deployment.model}: {deployment.provider} needs a package: pip install {package}"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The package around it is not there.
        return False


def _deploy(entry: ModelEntry, number: int, table: PriceTable) -> tuple[Deployment, str | None]:
    params = entry.litellm_params
    provider, model = table.provider_and_model(params.model)
    listed = table.provider_and_model(entry.base_model or params.model)
    place = place_of(provider, params.api_base, params.credentials)
    known = table.entry(*listed)
    mode = _mode(entry, known)
    _require_text(entry, mode)
    resolved = resolve_price(
        table,
        provider=listed[0],
        deployment_model=listed[1],
        rates_usd=params.rates_usd,
        source=entry.model_name,
        place=place,
    )
    deployment = Deployment(
        deployment_id=DeploymentId(f"{entry.model_name}#{number}"),
        model=entry.model_name,
        provider=provider,
        deployment_model=model,
        api_base=params.api_base,
        api_key=params.api_key,
        credentials=params.credentials,
        weight=params.weight,
        order=params.order,
        timeouts=entry.timeouts,
        price=resolved.price,
        reasons_unasked=_reasons_unasked(*listed, known),
        is_embedding=mode == "embedding",
        encoding=encoding_of(*listed),
    )
    return _at_its_provider(_in_its_dialect(deployment)), resolved.warning


def _in_its_dialect(deployment: Deployment) -> Deployment:
    is_translated = not is_direct(deployment.provider)
    if is_translated:
        # LiteLLM's output count includes the reasoning, whatever the provider's does.
        reasoning_in_output = True
        is_capped = True if deployment.provider in CAPPED_REASONING else None
    else:
        dialect = dialect_of(deployment)
        reasoning_in_output = dialect.reasoning_in_output
        is_capped = dialect.is_reasoning_capped
    if is_capped is None:
        is_capped = deployment.price is None or not deployment.price.may_reason
    return replace(
        deployment,
        reasoning_in_output=reasoning_in_output,
        is_output_capped=is_capped,
        is_translated=is_translated,
    )


_REASONING = re.compile(
    r"(?:^|[./_@-])"
    r"(?:o\d|gpt-[5-9]|gpt-oss|codex|claude|gemini|grok|deepseek-r|qwen3|qwq|magistral)"
    r"|reason|think"
)
"""Families that think: the table says so of a model at one provider, and not at the next.
Source: LiteLLM 1.106.2, its table, `supports_reasoning` of models of these names."""

_ASKED_TO_THINK = re.compile(r"claude-(?:instant|v?[123]\b|(?:opus|sonnet|haiku)-4)")
"""Claude's models that think where a request says so, and only there: those of before 5.

Source: Anthropic, "What's new in Claude Opus 5" (Opus 4.8 does not think where a request does not
say so, Opus 5 does); AWS, "Adaptive thinking" of Bedrock's Claude; read 2026-11-25."""


def _reasons_unasked(provider: str, model: str, listed: Mapping[str, object] | None) -> bool:
    """
    Say whether *model* may think although a request does not ask for it.

    Args:
        listed: What the price table says of it; of a model that is not there nobody knows.
    """
    if provider in _SELLING_CLAUDE and _ASKED_TO_THINK.search(model):
        return False
    if listed is None:
        return True
    return bool(listed.get("supports_reasoning")) or _REASONING.search(model) is not None


_UPGRADING = frozenset({"azure", "azure_ai"})
"""Where, as at OpenAI, the operator's own setting there may be a dearer service tier.
Source: Microsoft, "Enable priority processing for Microsoft Foundry models" (a deployment's own
setting), read 2026-11-24."""

_SELLING_CLAUDE = frozenset({"anthropic", "azure_ai", "bedrock", "vertex_ai", "vertex_ai_beta"})
_SELLING_GEMINI = frozenset({"gemini", "vertex_ai", "vertex_ai_beta"})


def _at_its_provider(deployment: Deployment) -> Deployment:
    """
    Note what *deployment*'s provider sells besides tokens, or without being asked.

    Source: Anthropic, "Prompt caching" (what is not marked is not written to the cache); Google,
    "Context caching" (what is stored costs by the hour), and LiteLLM 1.106.2,
    `vertex_ai/context_caching` (it stores what is marked for Gemini); read 2026-11-24.
    """
    provider, model = deployment.provider, deployment.deployment_model
    return replace(
        deployment,
        is_upgradable=provider in _UPGRADING or is_openais(deployment),
        writes_cache_unasked=not (provider in _SELLING_CLAUDE and "claude" in model),
        stores_marked_input=provider in _SELLING_GEMINI and "gemini" in model,
    )


def _mode(entry: ModelEntry, listed: Mapping[str, object] | None) -> object:
    return entry.mode if entry.mode is not None else (listed or {}).get("mode")
