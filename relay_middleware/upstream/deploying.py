"""
From the configuration's `model_list` to deployments, priced.
"""

from collections import Counter
from collections.abc import Sequence
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
    resolved = resolve_price(
        table,
        provider=provider,
        deployment_model=model,
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
        is_embedding=_mode(entry, provider, model, table) == "embedding",
    )
    return _in_its_dialect(deployment), resolved.warning


def _in_its_dialect(deployment: Deployment) -> Deployment:
    if not is_direct(deployment.provider):
        # LiteLLM's output count includes the reasoning, whatever the provider's does. Where the cap
        # does not bound the reasoning is not known, the model's own limit does.
        may_reason = deployment.price is not None and deployment.price.may_reason
        is_capped = not may_reason or deployment.provider in CAPPED_REASONING
        return replace(deployment, is_translated=True, is_output_capped=is_capped)
    dialect = dialect_of(deployment)
    return replace(
        deployment,
        reasoning_in_output=dialect.reasoning_in_output,
        is_output_capped=dialect.is_reasoning_capped,
    )


def _mode(entry: ModelEntry, provider: str, model: str, table: PriceTable) -> object:
    if entry.mode is not None:
        return entry.mode
    return (table.entry(provider, model) or {}).get("mode")
