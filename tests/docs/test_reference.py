"""
The tables of the documentation are the code's: every key of the configuration with its default,
every error, every header, every command.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime

import click
import orjson
import pytest
import yaml
from fixtures.pages import ROOT, code_in, read_page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy_app.cli import main
from proxy_app.metrics import METRICS
from relay_middleware.config import litellm_keys
from relay_middleware.config.refused_keys import SECTIONS
from relay_middleware.config.schema import CustomersSection
from relay_middleware.core import limit_refusals
from relay_middleware.core.annotation import Receipt, to_members
from relay_middleware.core.deployments import Timeouts
from relay_middleware.core.holds import Account, Balance
from relay_middleware.core.money import NO_MONEY, NanoUsd
from relay_middleware.core.periods import Period, window_of
from relay_middleware.core.rates import TokenLimit, TokenWindow
from relay_middleware.core.tiers import DEFAULT_OUTPUT_TOKENS
from relay_middleware.core.usage import Usage, UsageSource
from relay_middleware.upstream.dialects import DIALECT_BY_PROVIDER

DOCS = ROOT / "docs"
CONFIGURATION = read_page(DOCS / "configuration.md")

OF_ANY = {"model_list": "[]", "spend_limits": "[]", "tiers": ".NAME", "prices": ".MODEL"}
"""How a page writes any item of a list, and any key that the operator chooses."""

UNIT_BY_NAME = {
    r"usd_per_million_.*": "US dollars per million tokens",
    r".*_cost_per_.*|.*_token_cost.*": "US dollars per token",
    r".*_s|timeout|cooldown_time": "seconds",
    r".*_tokens|token_limits": "tokens",
    r".*_bytes": "bytes",
    r"(.*_)?cents": "cents",
    r"percent": "percent",
    r"rate_limits|max_concurrency": "requests",
    r"allowed_fails": "failures",
    r".*": "-",
}
"""The first that fits a key's name counts."""


def heading_of(pattern: tuple[str, ...]) -> str:
    """Return what the section about the mapping at *pattern* is called: `tiers.NAME.margin`."""
    if not pattern:
        return "The file"
    name = ""
    for before, part in zip(("", *pattern), pattern, strict=False):
        name += OF_ANY[before] if part == "*" else f".{part}"
    return f"`{name.lstrip('.')}`"


@pytest.mark.parametrize("pattern", SECTIONS, ids=heading_of)
def test_every_key_of_the_configuration(pattern: tuple[str, ...]) -> None:
    """
    Each mapping of the file has a section, with its keys, and no others.
    """
    rows = CONFIGURATION.section(heading_of(pattern)).rows

    assert {row["key"].strip("`") for row in rows} == set(SECTIONS[pattern].model_fields)


FIELDS = [
    (pattern, name, field)
    for pattern, section in SECTIONS.items()
    for name, field in section.model_fields.items()
]


@pytest.mark.parametrize(
    ("pattern", "name", "field"),
    FIELDS,
    ids=[f"{heading_of(pattern)} {name}" for pattern, name, _ in FIELDS],
)
def test_default_and_unit(pattern: tuple[str, ...], name: str, field: FieldInfo) -> None:
    """
    The default that the page names, as YAML, is the code's; the unit is that of the key's name.
    """
    (row,) = (
        row for row in CONFIGURATION.section(heading_of(pattern)).rows if row["key"] == f"`{name}`"
    )

    assert row["unit"] == next(
        unit for form, unit in UNIT_BY_NAME.items() if re.fullmatch(form, name)
    )
    if field.is_required():
        assert row["default"] == "required"
    else:
        assert yaml.safe_load(code_in(row["default"])[0]) == default_of(pattern, name, field)


def default_of(pattern: tuple[str, ...], name: str, field: FieldInfo) -> object:
    """Return the default as a file would say it."""
    if pattern == ("timeouts",):
        # The schema knows only whether they were given.
        return asdict(Timeouts())[name]
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return default.model_dump(exclude_defaults=True)
    shown = SECTIONS[pattern].model_construct(**{name: default}).model_dump(mode="json")[name]
    return float(shown) if isinstance(shown, str) and shown.isdigit() else shown


def test_every_metric() -> None:
    """
    The page has each metric with its type and what it means, in the words of `/metrics`.
    """
    rows = read_page(DOCS / "metrics.md").section("Metrics").rows

    assert [(row["metric"], row["type"], row["meaning"]) for row in rows] == [
        (f"`{metric.name}`", metric.kind, metric.meaning) for metric in METRICS
    ]


def test_every_direct_provider() -> None:
    """
    The page names each provider that is not translated.
    """
    (paragraph,) = (
        text
        for text in CONFIGURATION.section("`model_list[].litellm_params`").texts
        if "speak OpenAI's wire" in text
    )

    assert DIALECT_BY_PROVIDER.keys() - set(code_in(paragraph)) == set()


def test_default_output_cap() -> None:
    """
    The cap of a request that names none, on a tier that names none, stands in the page.
    """
    (row,) = (
        row
        for row in CONFIGURATION.section("`tiers.NAME`").rows
        if row["key"] == "`default_output_tokens`"
    )

    expected = f"`null`: {DEFAULT_OUTPUT_TOKENS} where a spend or token limit applies"
    assert expected in row["meaning"]


LITELLM = read_page(DOCS / "litellm.md")

KEYS_OF_LITELLM = {
    "`model_list`": {**litellm_keys.PARAMS, **litellm_keys.MODEL, **litellm_keys.MODEL_INFO},
    "`router_settings`": litellm_keys.ROUTER,
    "`litellm_settings`": litellm_keys.SETTINGS["litellm_settings"],
    "`general_settings` and the rest": {
        **litellm_keys.SETTINGS["general_settings"],
        **litellm_keys.SECTIONS,
    },
}


@pytest.mark.parametrize(("heading", "keys"), KEYS_OF_LITELLM.items(), ids=KEYS_OF_LITELLM)
def test_every_key_of_litellm(heading: str, keys: Mapping[str, str]) -> None:
    """
    What `relay check` explains of LiteLLM's keys, the page about them explains too.
    """
    shown = {code for row in LITELLM.section(heading).rows for code in code_in(row["LiteLLM"])}

    assert keys.keys() - litellm_keys.SETTINGS.keys() - shown - {"environment_variables"} == set()


ERRORS = read_page(DOCS / "errors.md")

PROVIDERS_OWN = "400, 413, 422"


def sources() -> Iterator[tuple[str, ast.AST]]:
    """Yield every module of Relay, but for the simulated provider, by its name."""
    package = ROOT / "relay_middleware"
    for path in package.rglob("*.py"):
        if "testing" not in path.parts:
            yield path.stem, ast.parse(path.read_text(encoding="utf-8"))


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in the source, by the name of what is called."""
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func).split(".")[-1], node


def errors_in_code() -> set[tuple[str, str]]:
    """Return status and code of everything that a client can be told, as the source has it."""
    found = {("400", "invalid_value"), (PROVIDERS_OWN, "provider_refused")}
    for name, call in calls():
        given = {word.arg: word.value for word in call.keywords}
        code = given.get("code")
        if name == "Refusal" and isinstance(code, ast.Constant):
            found.add((ast.unparse(given["status_code"]), str(code.value)))
        elif name == "invalid_request" and code is not None:
            found |= {("400", text) for text in texts_in(code)}
        elif name == "_refused":
            # Of a translated provider: the last argument, where it is no expression.
            found |= {("400", text) for text in texts_in(call.args[-1])}
    for name, tree in sources():
        if name == "trouble":
            found |= {(PROVIDERS_OWN, code) for code in codes_of_litellm(tree)}
    return found


def texts_in(node: ast.AST) -> list[str]:
    """Return the texts that *node* may be: one, or the two of a conditional."""
    return [
        each.value
        for each in ([node.body, node.orelse] if isinstance(node, ast.IfExp) else [node])
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    ]


def codes_of_litellm(tree: ast.AST) -> Iterator[str]:
    """Yield what the kinds of LiteLLM's refusals are told as."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_CODES":
            yield from ast.literal_eval(ast.unparse(node.value)).values()


def test_every_error() -> None:
    """
    The tables of errors have every status and code that the source has, and no others.
    """
    shown = {
        (row["status"], code)
        for section in ERRORS.sections
        for row in section.rows
        if "status" in row
        for code in code_in(row["code"])
    }

    assert shown == errors_in_code()


def test_every_number_of_a_limit() -> None:
    """
    What a refusal has in its metadata stands in the table, and nothing else.
    """
    at = datetime(2026, 11, 24, tzinfo=UTC)
    account = Account(window=window_of(Period.DAY, at), limit_nano_usd=NanoUsd(2))
    balance = Balance(
        posted_nano_usd=NO_MONEY,
        held_nano_usd=NO_MONEY,
        credit_nano_usd=NO_MONEY,
        expired_nano_usd=NO_MONEY,
    )
    limit = TokenLimit("40000/minute", limit_tokens=40_000, window_s=60)
    untouched = TokenWindow(previous_tokens=0, current_tokens=0, elapsed_ms=0)
    told = [
        limit_refusals.request_exceeds_limit(account, balance, NanoUsd(3), largest_cap_tokens=1),
        limit_refusals.spend_limit_exceeded(account, balance, NanoUsd(3)),
        limit_refusals.in_flight_budget_exhausted(account, balance, NanoUsd(3)),
        limit_refusals.rate_limit_exceeded("20/minute", 1.0),
        limit_refusals.token_limit_exceeded(untouched.status(limit), 3),
        limit_refusals.request_exceeds_token_limit(limit, 50_000, largest_cap_tokens=1),
        limit_refusals.concurrency_limit_exceeded(4, 4),
    ]

    shown = {
        row["member"].strip("`")
        for row in ERRORS.section("What the customer may not do").rows
        if "member" in row
    }

    assert shown == {name for refusal in told for name in refusal.metadata}


HEADERS = read_page(DOCS / "headers.md")

_HEADER = re.compile(
    r"x-[a-z-]+|authorization|allow|retry-after|www-authenticate|cache-control|content-[a-z]+"
)

_INSIDE = {
    *(
        "dialects",
        "failures",
        "http",
        "litellm_keys",
        "schema",
        "streaming",
        "trouble",
        "unpacking",
    ),
    "wire",
}
"""Modules that name headers of providers, or of the configuration."""


def headers_in_code() -> set[str]:
    """Return the name of every header that the source reads from a client or sends to one."""
    found = {name.lower() for name in CustomersSection().headers}
    for name, tree in sources():
        for node in ast.walk(tree) if name not in _INSIDE else ():
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str | bytes):
                continue
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if _HEADER.fullmatch(text):
                found.add(text)
    return found


def test_every_header() -> None:
    """
    The two tables of headers have every header that the source names, and no others.
    """
    shown = {
        row["header"].strip("`").lower()
        for heading in ("Request headers", "Response headers")
        for row in HEADERS.section(heading).rows
    }

    assert shown == headers_in_code()


def test_every_member_of_an_answer() -> None:
    """
    The table has every member of `relay`, of a receipt that leaves none out.
    """
    receipt = Receipt(
        request_id="1",
        customer_id="cust_1",
        tier="free",
        model="smart",
        provider="openai",
        deployment_model="gpt-4o-mini",
        attempts=1,
        usage=Usage(input_tokens=1, output_tokens=1),
        usage_source=UsageSource.PROVIDER,
        charge_nano_usd=NanoUsd(1),
        provider_cost_nano_usd=NanoUsd(1),
        spend_remaining_nano_usd=NanoUsd(1),
        is_priced=False,
    )
    members = json.loads(b"{%b}" % to_members(receipt, orjson.dumps))

    rows = HEADERS.section("Members of an answer").rows

    assert {row["member"].strip("`") for row in rows} == set(members["relay"])


COMMANDS = read_page(DOCS / "commands.md")


def commands(group: click.Group, name: str = "relay") -> Iterator[tuple[str, click.Command]]:
    """Yield every command below *group*, by what is typed."""
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


@pytest.mark.parametrize(
    ("name", "command"), list(commands(main)), ids=[name for name, _ in commands(main)]
)
def test_every_command_and_option(name: str, command: click.Command) -> None:
    """
    Each command has a section, and that names each of its options and what it takes.
    """
    section = COMMANDS.section(f"`{name}`")

    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert max(parameter.opts, key=len) in section.text
        else:
            assert parameter.make_metavar(click.Context(command)).strip("[]") in section.text


def test_no_command_that_is_not_there() -> None:
    """
    A section of the page about commands is about one that there is.
    """
    shown = {heading for section in COMMANDS.sections if (heading := section.heading)}

    assert shown == {"Commands", *(f"`{name}`" for name, _ in commands(main))}
