"""
What is said of a configuration without refusing it: warnings, unset variables, and what to do with
each key of LiteLLM's that Relay does not take.
"""

from collections.abc import Mapping

import pytest

from relay_middleware.config import litellm_keys
from relay_middleware.config.loading import Examined, examine, parse_config
from relay_middleware.config.schema import CredentialsSection, ParamsSection, TierSection
from relay_middleware.core.endpoints.forbidden import CREDENTIAL_MEMBERS
from relay_middleware.errors import ConfigurationError

FILE = """\
model_list:
  - model_name: smart
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/KEY}
tiers:
  free: {models: [smart], spend_limits: [{cents: 50, per: day}]}
customers: {default_tier: free}
"""

SET = {"KEY": "sk-0123456789abcdef"}


def with_lines(*lines: str) -> str:
    return FILE + "".join(f"{line}\n" for line in lines)


def with_params(members: str) -> str:
    return FILE.replace("api_key: os.environ/KEY", members)


def told(examined: Examined) -> list[str]:
    return [str(finding) for finding in examined.mistakes]


def warned(text: str, environ: Mapping[str, str] = SET) -> list[str]:
    return [str(finding) for finding in examine(text, environ).warnings]


def test_a_file_without_a_fault() -> None:
    """A good file has a configuration, and nothing is to be said of it."""
    examined = examine(FILE, SET)

    assert examined.config is not None
    assert (examined.mistakes, examined.unset, examined.warnings) == ((), (), ())


def test_a_finding_knows_its_place() -> None:
    """A mistake comes with line 7 and its key; one from a variable with the variable's name."""
    environ = {**SET, "RELAY_STATE_DIRR": "x"}

    inside, outside = sorted(examine(with_lines("redis_ulr: x"), environ).mistakes, key=str)

    assert (outside.line, outside.place) == (7, "redis_ulr")
    assert outside.message == "is no key here; did you mean 'redis_url'?"
    assert (inside.line, inside.place) == (None, "RELAY_STATE_DIRR")


def test_unset_variables_are_no_mistakes() -> None:
    """Where the environment lacks a key, the rest of the file is read all the same."""
    examined = examine(FILE, {})

    assert examined.mistakes == ()
    assert examined.config is not None
    (unset,) = examined.unset
    assert (unset.line, unset.place) == (3, "model_list[0].litellm_params.api_key")
    assert unset.message == "the environment variable KEY is not set; set it"


def test_only_who_calls_providers_needs_their_keys() -> None:
    """A command that reads the books runs without the providers' keys, not without the database."""
    text = with_lines("database_url: os.environ/DB")

    config = parse_config(text, "relay.yaml", {"DB": "sqlite:///x.db"}, is_serving=False)

    assert config.database_url == "sqlite:///x.db"
    with pytest.raises(ConfigurationError, match="KEY is not set"):
        parse_config(text, "relay.yaml", {"DB": "sqlite:///x.db"})
    with pytest.raises(ConfigurationError, match="DB is not set"):
        parse_config(text, "relay.yaml", SET, is_serving=False)


DANGERS = {
    "a default tier without end": (
        FILE.replace(", spend_limits: [{cents: 50, per: day}]", ""),
        "line 5: tiers.free: is the default tier and has no spend_limits",
    ),
    "an empty list of limits": (
        FILE.replace("[{cents: 50, per: day}]", "[]"),
        "line 5: tiers.free: is the default tier and has no spend_limits",
    ),
    "an outage that opens a limit of money": (
        FILE.replace("per: day}]}", "per: day}], on_outage: open}"),
        "line 5: tiers.free.on_outage: is open beside spend_limits: while limits cannot be checked",
    ),
    "a header that is believed": (
        FILE.replace("{default_tier: free}", "{default_tier: free, trust_header: true}"),
        "line 6: customers.trust_header: trust_header: on routes of the host application whoever",
    ),
    "a key in clear text": (
        with_params("api_key: sk-0123456789abcdef"),
        "line 3: model_list[0].litellm_params.api_key: is a secret in clear text; write os.environ",
    ),
    "a cloud's secret in clear text": (
        with_params("aws_secret_access_key: 0123456789abcdef"),
        "line 3: model_list[0].litellm_params.aws_secret_access_key: is a secret in clear text",
    ),
    "an alternative without a weight": (
        FILE.replace(
            "tiers:\n",
            "  - {model_name: smart, litellm_params: {model: openai/gpt-4.1, weight: 2}}\ntiers:\n",
        ),
        "line 3: model_list[0].litellm_params: has no weight, and an alternative has one: it is",
    ),
    "a password in an address": (
        with_lines("redis_url: redis://:hunter2@cache:6379/0"),
        "line 7: redis_url: is a secret in clear text",
    ),
    "a variable of the shell": (
        with_params("api_key: '${OPENAI_API_KEY:-}'"),
        "line 3: model_list[0].litellm_params.api_key: $OPENAI_API_KEY is taken as it stands; ",
    ),
}


@pytest.mark.parametrize(("text", "expected"), DANGERS.values(), ids=DANGERS)
def test_danger(text: str, expected: str) -> None:
    """What is allowed and dangerous is a warning with its line; the file is read."""
    (warning,) = warned(text)

    assert warning.startswith(expected)
    assert examine(text, SET).config is not None


def test_warnings_do_not_show_secrets() -> None:
    """A warning about a secret does not repeat it."""
    text = (
        with_params("api_key: sk-0123456789abcdef") + "database_url: postgresql://u:hunter2@h/r\n"
    )

    assert "0123456789" not in str(warned(text))
    assert "hunter2" not in str(warned(text))


NO_DANGERS = {
    "a key from the environment": FILE,
    "a key that is none": with_params("api_key: none"),
    "customers that requests do not create": FILE.replace(
        "spend_limits: [{cents: 50, per: day}]}\ncustomers: {default_tier: free}",
        "spend_limits: []}\ncustomers: {default_tier: free, unknown: reject}",
    ),
    "weights of two models": FILE.replace(
        "tiers:\n",
        "  - {model_name: other, litellm_params: {model: openai/gpt-4.1, weight: 2}}\ntiers:\n",
    ),
    "weights of two orders": FILE.replace(
        "tiers:\n",
        "  - model_name: smart\n    litellm_params: {model: openai/gpt-4.1, weight: 2, order: 1}\n"
        "tiers:\n",
    ),
    "another tier without end": FILE.replace("tiers:\n", "tiers:\n  vip: {models: [smart]}\n"),
    "an outage that closes a limit of money": FILE.replace(
        "per: day}]}", "per: day}], on_outage: closed}"
    ),
    "an outage that opens where there is no money": FILE.replace(
        "tiers:\n", "tiers:\n  vip: {models: [smart], on_outage: open}\n"
    ),
    "an address without a password": with_lines("redis_url: redis://cache:6379/0"),
    "an address from the environment": with_lines("redis_url: os.environ/REDIS"),
}


@pytest.mark.parametrize("text", NO_DANGERS.values(), ids=NO_DANGERS)
def test_no_danger(text: str) -> None:
    """What is as it should be is not warned of."""
    assert warned(text, {**SET, "REDIS": "redis://:hunter2@cache"}) == []


def test_a_secret_of_a_variable_is_no_danger() -> None:
    """What a variable `RELAY_…` says stands in no file."""
    assert warned(FILE, {**SET, "RELAY_REDIS_URL": "redis://:hunter2@cache"}) == []


def test_a_secret_that_begins_as_a_variable_does() -> None:
    """A password with a dollar is no variable, and is not printed."""
    (warning,) = warned(with_params("api_key: $uper-5ecret-key"))

    assert warning.endswith("is a secret in clear text; write os.environ/NAME")


def test_what_a_refused_key_wants_of_the_environment_is_not_asked_for() -> None:
    """Nobody is told to set a variable for a key, or below a key, that has to go."""
    lines = ("general_settings: {master_key: os.environ/A}", "files_settings: [{b: os.environ/B}]")

    examined = examine(with_lines(*lines), SET)

    assert examined.unset == ()
    assert [finding.place for finding in examined.mistakes] == [
        "general_settings.master_key",
        "files_settings",
    ]


def test_a_setting_without_a_value_only_goes() -> None:
    """What LiteLLM is told nothing of needs no other place."""
    assert told(examine(with_lines("general_settings: {database_url: null}"), SET)) == [
        "line 7: general_settings.database_url: says nothing; remove it"
    ]


def test_a_template_that_was_not_filled_in() -> None:
    """`{{NAME}}` is a mapping to YAML: told where it stands, and the rest is read all the same."""
    text = with_params("api_key: {{KEY}}").replace("cents: 50", "cents: x")

    template, cents = told(examine(text, {}))

    assert template.startswith("line 3: model_list[0].litellm_params.api_key: has a mapping")
    assert template.endswith("write os.environ/NAME")
    assert "tiers.free.spend_limits[0].cents" in cents


def test_entries_are_read_without_what_is_refused() -> None:
    """
    An entry with a key too many is looked at further, so that all its mistakes are told at once;
    one of another provider, or of none yet, is not.
    """
    more = (
        "  - {model_name: a, litellm_params: {model: openai/a, rpm: 3, tpm: 4}, tpm: 5}\n"
        "  - {model_name: b, litellm_params: {model: b, custom_llm_provider: azure}}\n"
        "  - {model_name: c, litellm_params: {model: os.environ/MODEL}}\n"
    )

    examined = examine(FILE.replace("tiers:\n", more + "tiers:\n"), SET)

    assert {index: entry.model_name for index, entry in examined.entries.items()} == {
        0: "smart",
        1: "a",
    }
    assert examined.incomplete == {1}


def test_regions_are_deployments_of_their_own() -> None:
    """One model in two regions is two deployments, in one region twice a mistake."""
    one = "  - {model_name: b, litellm_params: {model: bedrock/b, aws_region_name: eu-west-1}}\n"
    other = one.replace("eu-west-1", "us-east-1")

    assert told(examine(FILE.replace("tiers:\n", one + other + "tiers:\n"), SET)) == []
    (twice,) = told(examine(FILE.replace("tiers:\n", one + one + "tiers:\n"), SET))
    assert "model_list[2]: is the same deployment as model_list[1]" in twice


WRONG_PLACES = {
    "fallbacks: [{smart: [x]}]": "fallbacks: stands in the wrong place; move it under router_set",
    "num_retries: 3": "num_retries: Relay never repeats a call at the same deployment; remove it",
    "router_settings: {fallbacks: [{'*': [smart]}]}": (
        "router_settings.fallbacks[0].*: stands for every model at LiteLLM; name each model with"
    ),
    "router_settings: {fallbacks: {smart: [x]}}": (
        "router_settings.fallbacks: must be a list ([{smart: [smart-backup]}]; in an environment"
    ),
    "router_settings: {client_ttl: 3}": (
        "router_settings.client_ttl: Relay does not honour this setting of LiteLLM; remove it: it"
        " honours allowed_fails, cooldown_time,"
    ),
    "router_settings: {cooldown_tme: 3}": (
        "router_settings.cooldown_tme: is no key here; did you mean 'cooldown_time'?"
    ),
}


@pytest.mark.parametrize(("line", "expected"), WRONG_PLACES.items(), ids=WRONG_PLACES)
def test_a_line_of_litellms_file(line: str, expected: str) -> None:
    """What stands in the wrong place, or in another form, is told with the right one."""
    assert told(examine(with_lines(line), SET))[0].startswith(f"line 7: {expected}")


PARAMS = {
    "extra_body: {a: 1}": "extra_body: Relay adds nothing to what clients ask; remove it",
    "api_bse: x": "api_bse: is no key here; did you mean 'api_base'?",
    "timeouts: {connect_s: 1}": "timeouts: stands in the wrong place; move it beside litellm_par",
    "input_cost_per_token_above_200k_tokens: 1": (
        "input_cost_per_token_above_200k_tokens: Relay takes no such price; remove it: it takes"
        " cache_creation_input_token_cost,"
    ),
    "litellm_credential_name: x": "litellm_credential_name: write the credential itself",
    "auto_router_config: x": "auto_router_config: Relay does not take this key of LiteLLM's; remo",
}


@pytest.mark.parametrize(("members", "expected"), PARAMS.items(), ids=PARAMS)
def test_a_parameter_of_litellms(members: str, expected: str) -> None:
    """A parameter that Relay does not take is told with what to do, and not with forty others."""
    (mistake,) = told(examine(with_params(members), SET))

    assert mistake.startswith(f"line 3: model_list[0].litellm_params.{expected}")


def test_a_provider_without_a_model() -> None:
    """`azure/` is a provider and names no model."""
    (mistake,) = told(examine(FILE.replace("openai/gpt-4o-mini", "azure/"), SET))

    assert "'azure/' names no model; write provider and model" in mistake


@pytest.mark.parametrize("section", ["litellm_settings", "general_settings"])
def test_settings_of_litellm_are_explained_key_by_key(section: str) -> None:
    """Each key that LiteLLM's documentation has is told with its own line and what to do."""
    known = litellm_keys.SETTINGS[section]
    lines = [f"{section}:", *(f"  {key}: 1" for key in known), "  made_up: 1"]

    mistakes = examine(with_lines(*lines), SET).mistakes

    assert [finding.line for finding in mistakes] == list(range(8, 9 + len(known)))
    assert [finding.place for finding in mistakes] == [
        *(f"{section}.{key}" for key in known),
        f"{section}.made_up",
    ]
    assert [finding.message for finding in mistakes[:-1]] == list(known.values())
    assert mistakes[-1].message == litellm_keys.SECTIONS[section]


@pytest.mark.parametrize(
    "line",
    ["{master_key: os.environ/UNSET}", "{coordination_redis: {host: os.environ/UNSET}}"],
    ids=["key", "mapping"],
)
def test_a_key_that_is_not_taken_needs_no_variable(line: str) -> None:
    """What to do with LiteLLM's key is told, not that its variable is missing."""
    examined = examine(with_lines(f"general_settings: {line}"), SET)

    assert examined.unset == ()
    assert len(examined.mistakes) == 1
    assert "UNSET" not in str(examined.mistakes)


def test_a_number_of_an_unset_variable() -> None:
    """Where no text could stand, a variable that is not set is the mistake, and told once."""
    examined = examine(with_params("api_key: a, weight: os.environ/UNSET"), SET)

    assert (examined.config, examined.unset) == (None, ())
    (mistake,) = told(examined)
    assert mistake.startswith("line 3: model_list[0].litellm_params.weight: the environment")
    assert mistake.endswith("UNSET is not set; set it")


def test_the_environments_section_is_explained_line_by_line() -> None:
    """LiteLLM's `environment_variables` is told for each variable."""
    mistakes = examine(with_lines("environment_variables:", "  A: 1", "  B: 2"), SET).mistakes

    assert [(finding.line, finding.place) for finding in mistakes] == [
        (8, "environment_variables.A"),
        (9, "environment_variables.B"),
    ]
    assert "set it in the environment of the process" in mistakes[0].message


ENTRIES = {
    "model_name: '*'": "model_name: '*' is a wildcard; Relay prices what it routes",
    "model_info: {mode: image_generation}": (
        "model_info.mode: 'image_generation' is not served; Relay serves chat and embedding: remove"
    ),
    "model_info: {id: one}": "model_info.id: deployments are named after their model_name",
    "model_info: {access_groups: [a]}": (
        "model_info.access_groups: is not read; remove it: Relay reads base_model, mode"
    ),
    "model_info: {input_cost_per_token: 1}": (
        "model_info.input_cost_per_token: stands in the wrong place; move it into litellm_params"
    ),
    "rpm: 3": "rpm: is not read; remove it, give deployments a weight, and tiers rate_limits",
    "weight: 3": "weight: stands in the wrong place; move it into litellm_params",
}


@pytest.mark.parametrize(("member", "expected"), ENTRIES.items(), ids=ENTRIES)
def test_mistake_in_an_entry(member: str, expected: str) -> None:
    """A mistake beside `litellm_params` is told with its line, key and remedy."""
    entry = f"  - {{{member}, litellm_params: {{model: openai/gpt-4.1}}, model_name: spare}}\n"
    if member.startswith("model_name"):
        entry = f"  - {{{member}, litellm_params: {{model: openai/gpt-4.1}}}}\n"
    text = FILE.replace("tiers:\n", entry + "tiers:\n")

    assert f"line 4: model_list[1].{expected}" in told(examine(text, SET))[0]


def test_a_wildcard_of_a_provider() -> None:
    """LiteLLM's `openai/*` is told where it stands."""
    text = FILE.replace("openai/gpt-4o-mini", "openai/*")

    assert "line 3: model_list[0].litellm_params.model: 'openai/*' is a wildcard" in str(
        told(examine(text, SET))
    )


def test_what_an_entry_says_of_its_model_is_read() -> None:
    """Mode, base model and credentials reach the configuration; a printout has no credential."""
    text = with_params(
        "api_key: os.environ/KEY, api_version: '2024-06-01', aws_secret_access_key: os.environ/KEY"
    ).replace("tiers:\n", "    model_info: {mode: embedding, base_model: azure/gpt-4o}\ntiers:\n")

    config = examine(text, SET).config

    assert config is not None
    entry = config.model_list[0]
    assert (entry.mode, entry.base_model) == ("embedding", "azure/gpt-4o")
    assert entry.litellm_params.credentials == {
        "api_version": "2024-06-01",
        "aws_secret_access_key": SET["KEY"],
    }
    assert SET["KEY"] not in repr(config)


def test_every_credential_of_the_file_is_refused_in_a_body() -> None:
    """What an operator may write as a credential, no client may send."""
    assert CredentialsSection.model_fields.keys() <= CREDENTIAL_MEMBERS


@pytest.mark.parametrize("key", litellm_keys.PARAMS)
def test_no_reason_for_a_key_that_is_read(key: str) -> None:
    """A key with a reason to refuse it is one that Relay does not read."""
    assert key not in ParamsSection.model_fields


@pytest.mark.parametrize("key", litellm_keys.TIER)
def test_no_reason_for_a_key_that_a_tier_has(key: str) -> None:
    """The same of a tier's keys."""
    assert key not in TierSection.model_fields


CONCURRENCY = {
    "general_settings": {"max_parallel_requests": 100},
    "router_settings": {"default_max_parallel_requests": 100},
}


@pytest.mark.parametrize(("section", "members"), CONCURRENCY.items(), ids=CONCURRENCY)
def test_litellms_bound_of_parallel_requests(section: str, members: dict[str, int]) -> None:
    """Wherever LiteLLM's file bounds requests at the same time, ours is named."""
    (mistake,) = examine(with_lines(f"{section}: {members}"), SET).mistakes

    assert mistake.place == f"{section}.{next(iter(members))}"
    assert "set max_concurrency of a tier, which bounds each of its customers" in mistake.message


MISSING = {
    "model_list": "; write what clients may ask for, such as model_list: [{model_name: smart",
    "tiers": "; write what customers may do, such as tiers: {free:",
}


@pytest.mark.parametrize(("key", "expected"), MISSING.items(), ids=MISSING)
def test_what_is_missing_is_shown_as_it_is_written(key: str, expected: str) -> None:
    """A file without a section is told what such a section looks like."""
    assert f"{key}: is missing{expected}" in str(told(examine("{}", {})))
