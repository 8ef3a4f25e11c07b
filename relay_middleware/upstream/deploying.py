"""
From the configuration's `model_list` to deployments, priced.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from relay_middleware.config.values import ModelEntry
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.upstream.dialects import dialect_of, is_direct
from relay_middleware.upstream.prices import PriceTable, resolve_price

CAPPED_REASONING = frozenset(
    {"anthropic", "azure", "bedrock", "deepseek", "gemini", "vertex_ai", "vertex_ai_beta"}
)
"""Translated providers whose output cap bounds the reasoning too.

Source, all read 2026-11-23: Anthropic, "Extended thinking" (`max_tokens` includes the thinking);
Microsoft, "Azure OpenAI reasoning models" (`max_completion_tokens`); AWS, "Extended thinking" of
Bedrock's Claude; DeepSeek, "Reasoning model" (`max_tokens` includes the chain of thought); Google,
"Gemini thinking" (`maxOutputTokens` includes thoughts).
"""


def to_deployments(
    entries: Sequence[ModelEntry], table: PriceTable
) -> tuple[tuple[Deployment, ...], tuple[str, ...]]:
    """
    Return the deployments in the order of *entries*, and warnings about their prices.

    Raises:
        ConfigurationError: A provider's wire is not supported, or a price is incomplete.
    """
    seen: Counter[str] = Counter()
    deployments, warnings = [], []
    for entry in entries:
        seen[entry.model_name] += 1
        deployment, warning = _deploy(entry, seen[entry.model_name], table)
        deployments.append(deployment)
        warnings += [warning] if warning is not None else []
        if deployment.price is None:
            warnings.append(
                f"{entry.model_name}: {entry.litellm_params.model} has no known price; it is"
                " refused to customers with a spend limit, and costs others nothing. Set one under"
                " prices."
            )
    return tuple(deployments), tuple(warnings)


def _deploy(entry: ModelEntry, number: int, table: PriceTable) -> tuple[Deployment, str | None]:
    params = entry.litellm_params
    provider, model = table.provider_and_model(params.model)
    listed = table.provider_and_model(entry.base_model or params.model)
    resolved = resolve_price(
        table,
        provider=listed[0],
        deployment_model=listed[1],
        rates_usd=params.rates_usd,
        source=entry.model_name,
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
        is_embedding=_mode(entry, table.entry(*listed)) == "embedding",
    )
    return _in_its_dialect(deployment), resolved.warning


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


def _mode(entry: ModelEntry, listed: Mapping[str, object] | None) -> object:
    return entry.mode if entry.mode is not None else (listed or {}).get("mode")
