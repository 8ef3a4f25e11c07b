"""
Thinking: a client's wish for it, where a provider ties it to other members of the request.

OpenAI's clients name an effort. Claude takes a budget that is less than the output cap, and, while
it waits for a tool, the thoughts that it had before it asked; else it refuses the request.

Source: Anthropic, "Extended thinking" (`budget_tokens` from 1,024 to less than `max_tokens`;
thinking blocks that must be handed back with the results of tools), and for the latter's refusal
pydantic/pydantic-ai issue 2040; read 2026-11-24.
"""

from collections.abc import Mapping

from relay_middleware.upstream.parameters import Arguments, cap_of

WISHES = ("reasoning_effort", "thinking")
"""Members in which a client asks for thinking."""

MIN_BUDGET_TOKENS = 1024


def fit_thinking(arguments: Arguments, thinking: object) -> Arguments:
    """
    Return *arguments* with a wish to think that their provider takes, or without it.

    Args:
        thinking: What LiteLLM makes of the wish; anything but a budget is left as it is.
    """
    if not isinstance(thinking, Mapping) or thinking.get("type") != "enabled":
        return arguments
    budget_tokens, cap_tokens = thinking.get("budget_tokens"), cap_of(arguments.keywords)
    if not isinstance(budget_tokens, int):
        return arguments
    if _has_lost_thoughts(arguments.keywords.get("messages")):
        return arguments.without(*WISHES)
    if cap_tokens is None or budget_tokens < cap_tokens:
        return arguments
    if cap_tokens <= MIN_BUDGET_TOKENS:
        return arguments.without(*WISHES)
    # At most half, where that is enough to think: what is thought is not yet answered.
    fitting = {**thinking, "budget_tokens": max(MIN_BUDGET_TOKENS, cap_tokens // 2)}
    return arguments.having("thinking", fitting, instead_of=WISHES)


def _has_lost_thoughts(messages: object) -> bool:
    """
    Say whether the last answer used tools and comes without what was thought before.

    Where any answer has its thoughts, the client knows of them, and thinking must stay on.
    """
    answers = [
        message
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, Mapping) and message.get("role") == "assistant"
    ]
    if not answers or any(answer.get("thinking_blocks") for answer in answers):
        return False
    return bool(answers[-1].get("tool_calls"))
