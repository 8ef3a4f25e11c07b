"""
What becomes of a wish to think where the provider ties it to other members.
"""

import pytest

from relay_middleware.upstream.parameters import Arguments
from relay_middleware.upstream.thinking import fit_thinking

QUESTION = {"role": "user", "content": "Why?"}
CALLED = {"role": "assistant", "tool_calls": [{"id": "c1"}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "Because"}
THOUGHT = {**CALLED, "thinking_blocks": [{"type": "thinking", "thinking": "Hm"}]}


def arguments(cap_tokens: int | None, *messages: object) -> Arguments:
    """A wish for a high effort, with an output cap."""
    cap = {} if cap_tokens is None else {"max_tokens": cap_tokens}
    keywords = {"messages": [QUESTION, *messages], "reasoning_effort": "high", **cap}
    return Arguments(keywords=keywords, dropped=("seed",))


def budget(tokens: int) -> dict[str, object]:
    return {"type": "enabled", "budget_tokens": tokens}


@pytest.mark.parametrize(
    "thinking",
    [None, "high", {"type": "adaptive"}, {"type": "enabled"}, budget(4095), budget(1024)],
    ids=str,
)
def test_what_fits_is_left_alone(thinking: object) -> None:
    """
    No budget, or one below the cap of 4,096, needs nothing.
    """
    asked = arguments(4096)

    assert fit_thinking(asked, thinking) is asked


def test_without_a_cap_any_budget_fits() -> None:
    """
    Where no cap is told, LiteLLM makes one above the budget.
    """
    asked = arguments(None)

    assert fit_thinking(asked, budget(16_384)) is asked


@pytest.mark.parametrize(
    ("cap_tokens", "fitting_tokens"), [(4096, 2048), (2048, 1024), (1500, 1024), (1025, 1024)]
)
def test_a_budget_as_large_as_the_cap_is_lowered(cap_tokens: int, fitting_tokens: int) -> None:
    """
    It becomes half of the cap, but no less than the 1,024 that the provider asks for.
    """
    fitted = fit_thinking(arguments(cap_tokens), budget(4096))

    assert fitted.keywords == {
        "messages": [QUESTION],
        "max_tokens": cap_tokens,
        "thinking": budget(fitting_tokens),
    }
    assert fitted.dropped == ("seed",)


def test_a_cap_that_leaves_no_room_for_thoughts() -> None:
    """
    Under a cap of 1,024 there is no thinking, and the client is told.
    """
    fitted = fit_thinking(arguments(1024), budget(1024))

    assert fitted.keywords == {"messages": [QUESTION], "max_tokens": 1024}
    assert fitted.dropped == ("reasoning_effort", "seed")


def test_lost_thoughts_end_the_thinking() -> None:
    """
    A client that hands back a tool's result without the thoughts before its use gets an answer
    without more of them, and is told.
    """
    fitted = fit_thinking(arguments(4096, CALLED, RESULT), budget(1024))

    assert "reasoning_effort" not in fitted.keywords
    assert fitted.dropped == ("reasoning_effort", "seed")


@pytest.mark.parametrize(
    "messages",
    [
        [THOUGHT, RESULT],
        [THOUGHT, RESULT, {"role": "assistant", "content": "So"}, QUESTION, CALLED, RESULT],
        [CALLED, RESULT, {"role": "assistant", "content": "So"}, QUESTION],
        [{"role": "assistant", "content": "So"}, QUESTION],
    ],
    ids=["handed back", "known of", "answered since", "no tools"],
)
def test_thinking_goes_on(messages: list[object]) -> None:
    """
    With its thoughts, or where no tool is awaited, thinking stays on.
    """
    asked = arguments(4096, *messages)

    assert fit_thinking(asked, budget(1024)) is asked
