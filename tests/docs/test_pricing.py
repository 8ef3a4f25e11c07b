"""
The page about pricing is right: its examples are what the code computes, and its tables the code's.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from inspect import signature

import pytest
from fixtures.pages import ROOT, Section, code_in, read_page

from relay_middleware.config.schema import ParamsSection, PriceSection
from relay_middleware.core.bounds import (
    COUNT_MARGIN_PERCENT,
    FRAMING_TOKENS,
    FRAMING_TOKENS_PER_INPUT,
    input_bound,
)
from relay_middleware.core.charging import Candidate, Demand, bill, hold_amount
from relay_middleware.core.endpoints import chat, embeddings
from relay_middleware.core.fitting import MAX_COUNTED_BYTES
from relay_middleware.core.money import NanoUsd, cents_to_nano_usd
from relay_middleware.core.pricing import PARTS, ModelPrice
from relay_middleware.core.tiers import DEFAULT_OUTPUT_TOKENS, Margin
from relay_middleware.core.usage import MAX_TOKENS, Usage, UsageSource, from_openai
from relay_middleware.services import Drains
from relay_middleware.upstream.prices import load_price_table

PAGE = read_page(ROOT / "docs" / "pricing.md")

EXAMPLES = [section for section in PAGE.sections if section.heading.startswith("Example: ")]

NANO_USD_PER_TOKEN_AT_1_USD_PER_MILLION = 1000


def price_of(name: str) -> ModelPrice:
    """Return the bundled price of the model that an example is about."""
    provider, model = name.split("/")
    price = load_price_table().find(provider, model)
    assert price is not None
    return price


def number(cell: str) -> Decimal:
    """Read a number as a page writes it."""
    return Decimal(cell.replace(",", "") or 0)


def rows_by_part(section: Section) -> Mapping[str, dict[str, str]]:
    return {row["part"]: row for row in section.rows}


def usage_in(section: Section) -> Usage:
    """Return the usage that the parts of an example make: wholes that include their parts."""
    tokens = {part: int(number(row["tokens"])) for part, row in rows_by_part(section).items()}
    inputs = ("input", "cached input", "cache write", "cache write for an hour")
    return Usage(
        input_tokens=sum(tokens.get(part, 0) for part in inputs),
        cached_input_tokens=tokens.get("cached input", 0),
        cache_write_input_tokens=tokens.get("cache write", 0),
        cache_write_1h_input_tokens=tokens.get("cache write for an hour", 0),
        output_tokens=tokens.get("output", 0) + tokens.get("reasoning", 0),
        reasoning_tokens=tokens.get("reasoning", 0),
    )


def margin_in(section: Section) -> Margin:
    """Return the margin that the rows of an example name."""
    percent = re.search(r"margin: ([\d.]+) percent", " ".join(rows_by_part(section)))
    fixed = re.search(r"margin: ([\d.]+) cents a request", " ".join(rows_by_part(section)))
    return Margin(
        percent=Decimal(percent[1] if percent else 0),
        per_request_nano_usd=cents_to_nano_usd(Decimal(fixed[1] if fixed else 0)),
    )


@pytest.mark.parametrize("section", EXAMPLES, ids=lambda section: section.heading)
def test_example_of_a_charge(section: Section) -> None:
    """
    Each line is its tokens times its rate, the cost is their sum, and both it and the charge are
    what the code makes of that usage at the bundled price.
    """
    rows = rows_by_part(section)
    products = {part: number(row["nano-dollars"]) for part, row in rows.items() if row["tokens"]}
    for part, product in products.items():
        rate = number(rows[part]["US dollars per million"])
        assert (
            product == number(rows[part]["tokens"]) * rate * NANO_USD_PER_TOKEN_AT_1_USD_PER_MILLION
        )
    (model,) = code_in(section.heading)

    billed = bill(price_of(model), usage_in(section), margin_in(section))

    assert number(rows["cost"]["nano-dollars"]) == sum(products.values()) == billed.cost_nano_usd
    assert number(rows["charge"]["nano-dollars"]) == billed.charge_nano_usd


def test_whose_count_it_is() -> None:
    """
    The table has every source that a usage can be from.
    """
    rows = PAGE.section("Whose count it is").rows

    assert [code_in(row["value"])[0] for row in rows] == [source.value for source in UsageSource]


def test_places_to_read_on() -> None:
    """
    How many answers are read on without their clients, how long, and how many of one customer, is
    what the code has: 64, 120 s, 8.
    """
    defaults = signature(Drains).parameters
    places, seconds, of_one = (defaults[name].default for name in ("at_most", "seconds", "of_one"))
    text = " ".join(PAGE.section("When a client leaves").text.split())

    assert (places, seconds, of_one) == (64, 120, 8)
    assert f"in each worker {places} are read on at a time, {seconds:.0f} s each" in text
    assert f"no customer gets more than {of_one}" in text


def test_example_of_a_hold() -> None:
    """
    The bytes of the request that the page shows make the hold that it names, and the cap left by
    200,000 nano-dollars is 295 tokens; where the provider may serve it by `priority`, the hold is
    the other one that it names.
    """
    section = PAGE.section("Example of a hold")
    (shown,) = (code for text in section.texts for code in code_in(text) if "messages" in code)
    body = shown.replace("\n", " ")
    nano_usd = {row["item"]: number(row["nano-dollars"]) for row in section.rows}
    tokens = {row["item"]: number(row["tokens"]) for row in section.rows}
    bound = input_bound(
        len(body),
        chat.parse(json.loads(body)).framed_inputs,
        has_tools=False,
        opaque_tokens=None,
    )
    demand = Demand(
        candidates=[Candidate(price=price_of("openai/gpt-4o-mini"), input_bound=bound)],
        choices=1,
        service_tier=None,
        margin=Margin(),
    )

    assert tokens["bytes of the body"] == len(body)
    assert tokens["one message"] == FRAMING_TOKENS_PER_INPUT
    assert tokens["once"] == FRAMING_TOKENS
    assert tokens["input, at most"] == bound.tokens
    assert tokens["output, at most"] == DEFAULT_OUTPUT_TOKENS
    assert nano_usd["input, at most"] + nano_usd["output, at most"] == nano_usd["hold"]
    assert nano_usd["hold"] == hold_amount(demand, DEFAULT_OUTPUT_TOKENS)
    assert hold_amount(demand, 295) <= NanoUsd(200_000) < hold_amount(demand, 296)
    (candidate,) = demand.candidates
    upgraded = replace(demand, candidates=[replace(candidate, is_upgradable=True)])
    assert f"{hold_amount(upgraded, DEFAULT_OUTPUT_TOKENS):,} nano-dollars" in section.text


def test_every_member_without_a_bound() -> None:
    """
    The page names each member of a request that is refused where a limit applies.
    """
    shown = set(code_in(PAGE.section("What has no bound").text))

    assert {*chat.PAID_MEMBERS, *embeddings.PAID_MEMBERS} - shown == set()


def test_when_tokens_are_counted() -> None:
    """
    The longest body whose tokens are counted is 1 MiB, and what is counted gets 3 percent more.
    """
    text = " ".join(PAGE.section("Before: the hold").text.split())

    assert f"at most {MAX_COUNTED_BYTES // 2**20} MiB" in text
    assert f"{COUNT_MARGIN_PERCENT} percent" in text


def test_every_part_has_its_keys() -> None:
    """
    The table of rates has every part, its key in both places, and what it costs without a rate.
    """
    in_prices = {rate: key for key, rate in PriceSection.RATE_BY_KEY.items()}
    in_params = {rate: key for key, rate in ParamsSection.RATE_BY_KEY.items()}
    rows = {code_in(row["key in `prices`"])[0]: row for row in PAGE.section("The rates").rows}
    name_by_rate = {part.rate: rows[in_prices[part.rate]]["part"] for part in PARTS}

    assert len(rows) == len(PARTS)
    for part in PARTS:
        row = rows[in_prices[part.rate]]
        assert row["key in `litellm_params`"] == f"`{in_params[part.rate]}`"
        parent = "not priced" if part.parent is None else name_by_rate[part.parent]
        assert row["without a rate, costs as"] == parent


def test_every_member_of_a_usage_is_read() -> None:
    """
    A usage with each member that the page names has each part, as the page says.
    """
    usage: dict[str, object] = {}
    members = [
        code_in(row["the provider's member"])[0] for row in PAGE.section("After: the usage").rows
    ]
    for count, member in enumerate(members[:-2], start=1):
        *path, name = member.split(".")
        below = usage
        for step in path:
            below = below.setdefault(step, {})  # type: ignore[assignment]  # a mapping we made
        below[name] = 100 - count
    usage["inference_geo"] = "us"

    read = from_openai(usage, reasoning_in_output=True, service_tier="flex")

    assert members[-2:] == ["inference_geo", "service_tier"]
    assert read == Usage(
        input_tokens=99,
        cached_input_tokens=98,
        cache_write_input_tokens=97 - 96,
        cache_write_1h_input_tokens=96,
        audio_input_tokens=95,
        output_tokens=94,
        reasoning_tokens=93,
        audio_output_tokens=92,
        service_tier="flex",
        region="us",
    )
    assert f"{MAX_TOKENS:,}" in PAGE.section("After: the usage").text
