"""
The configuration: what is read, and every mistake with its place and remedy.
"""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from relay_middleware.config.loading import load_config, parse_config
from relay_middleware.config.values import Config, UnknownCustomer
from relay_middleware.core.deployments import Timeouts
from relay_middleware.core.money import MAX_NANO_USD
from relay_middleware.core.periods import Period
from relay_middleware.core.rates import TokenLimit
from relay_middleware.core.tiers import OnDisconnect, OnOutage
from relay_middleware.errors import ConfigurationError

GOOD = """\
model_list:
  - model_name: smart
    litellm_params: {model: openai/gpt-4o-mini, api_key: sk-1}
  - model_name: spare
    litellm_params: {model: openai/gpt-4.1-mini, api_key: sk-2}
tiers:
  free: {models: [smart]}
customers: {default_tier: free}
"""


def read(extra: str = "", environ: Mapping[str, str] | None = None) -> Config:
    """Read the good file with *extra* lines at its end."""
    return parse_config(GOOD + extra, "relay.yaml", environ or {})


def complaint(text: str, environ: Mapping[str, str] | None = None) -> str:
    """Return what the operator is told about *text*."""
    with pytest.raises(ConfigurationError) as caught:
        parse_config(text, "relay.yaml", environ or {})
    return str(caught.value)


def with_tier(members: str) -> str:
    """Return the good file with *members* in its tier, which stands in line 7."""
    return GOOD.replace("{models: [smart]}", f"{{models: [smart], {members}}}")


def with_params(members: str) -> str:
    """Return the good file with *members* in the first litellm_params, which stand in line 3."""
    return GOOD.replace("api_key: sk-1", f"api_key: sk-1, {members}")


def test_smallest_file_has_the_documented_defaults() -> None:
    """What the file leaves out is as the documentation says."""
    config = read()

    assert config.redis_url is None
    assert config.database_url == "sqlite:///relay.db"
    assert config.state_dir == Path(".relay")
    assert config.drain_timeout_s == 60
    assert config.max_body_bytes == 32 * 1024 * 1024
    assert config.cors_origins == ()
    assert config.timeouts == Timeouts(
        connect_s=5, first_event_s=60, non_stream_s=600, between_chunks_s=120
    )
    assert config.router_settings.allowed_fails == 1
    assert config.router_settings.cooldown_time == 5
    assert config.customers.headers == ("X-ModelRelay-Customer-Id", "X-Customer-Id")
    assert config.customers.body_user is False
    assert config.customers.unknown is UnknownCustomer.CREATE


def test_tier() -> None:
    """A tier's money is whole nano-dollars, its rates begin with the shortest window."""
    config = parse_config(
        with_tier(
            "default_model: smart, rate_limits: [500/day, 20/minute],"
            "spend_limits: [{cents: 50, per: day}, {cents: 0.0000001, per: lifetime}],"
            "default_output_tokens: 10, max_output_tokens: 20,"
            "margin: {percent: 12.5, per_request_cents: 1}"
        ),
        "relay.yaml",
        {},
    )

    tier = config.tiers["free"]
    assert tier.name == "free"
    assert tier.models == frozenset({"smart"})
    assert tier.default_model == "smart"
    assert tier.rate_limits == ("20/minute", "500/day")
    assert tier.spend_limits == {Period.DAY: 500_000_000, Period.LIFETIME: 1}
    assert (tier.default_output_tokens, tier.max_output_tokens) == (10, 20)
    assert tier.margin.percent == Decimal("12.5")
    assert tier.margin.per_request_nano_usd == 10_000_000


def test_pace_of_a_tier() -> None:
    """Token limits begin with the shortest window; what is not said is the safe or absent one."""
    config = parse_config(
        with_tier(
            "token_limits: [9 per 2 hours, 2147483647/day, ' 40000/minute '], max_concurrency: 4,"
            "on_disconnect: cancel, on_outage: open"
        ),
        "relay.yaml",
        {},
    )

    tier, unsaid = config.tiers["free"], read().tiers["free"]
    assert tier.token_limits == (
        TokenLimit("40000/minute", 40_000, 60),
        TokenLimit("9 per 2 hours", 9, 7200),
        TokenLimit("2147483647/day", 2_147_483_647, 86_400),
    )
    assert tier.max_concurrency == 4
    assert (tier.on_disconnect, tier.on_outage) == (OnDisconnect.CANCEL, OnOutage.OPEN)
    assert (unsaid.token_limits, unsaid.max_concurrency) == ((), None)
    assert (unsaid.on_disconnect, unsaid.on_outage) == (OnDisconnect.DRAIN, None)


def test_star_allows_every_model() -> None:
    """`*` among a tier's models allows all of them."""
    config = parse_config(GOOD.replace("[smart]", '["*"]'), "relay.yaml", {})

    assert config.tiers["free"].models is None


def test_deployment() -> None:
    """A deployment's place and share, and customer headers, are as they are written."""
    config = parse_config(
        with_params("api_base: https://llm.example/v1, weight: 2.5, order: 1").replace(
            "{default_tier: free}", "{default_tier: free, headers: [X-Tenant], body_user: true}"
        ),
        "relay.yaml",
        {},
    )

    params = config.model_list[0].litellm_params
    assert (params.model, params.api_base) == ("openai/gpt-4o-mini", "https://llm.example/v1")
    assert (params.weight, params.order) == (2.5, 1)
    assert config.customers.headers == ("X-Tenant",)
    assert config.customers.body_user is True


def test_router_settings() -> None:
    """LiteLLM's fallbacks and cooling are read; its `timeout` bounds answers that do not stream."""
    config = read(
        "router_settings: {fallbacks: [{smart: [spare]}], allowed_fails: 0, cooldown_time: 2.5,"
        " timeout: 30, routing_strategy: simple-shuffle}\n"
    )

    assert config.router_settings.fallbacks == {"smart": ("spare",)}
    assert config.router_settings.allowed_fails == 0
    assert config.router_settings.cooldown_time == 2.5
    assert config.timeouts == Timeouts(non_stream_s=30)


def test_a_deployments_timeouts_go_over_the_files() -> None:
    """A deployment has the file's time-outs except those that it names itself."""
    config = parse_config(
        GOOD.replace("api_key: sk-1}", "api_key: sk-1}\n    timeouts: {connect_s: 1}")
        + "timeouts: {connect_s: 2, non_stream_s: 3}\n",
        "relay.yaml",
        {},
    )

    assert config.model_list[0].timeouts == Timeouts(connect_s=1, non_stream_s=3)
    assert config.model_list[1].timeouts == Timeouts(connect_s=2, non_stream_s=3)


def test_a_price_is_the_decimal_that_is_written() -> None:
    """A price is exact, whether given by the token or by the million, and the entry's own wins."""
    config = parse_config(
        with_params("input_cost_per_token: 1.5e-07, output_cost_per_token: 6e-7")
        + "prices:\n"
        + "  openai/gpt-4o-mini: {usd_per_million_output_tokens: 9}\n"
        + "  openai/gpt-4.1-mini: {usd_per_million_cached_input_tokens: 0.1}\n",
        "relay.yaml",
        {},
    )

    first, second = (entry.litellm_params.rates_usd for entry in config.model_list)
    assert first == {"input_usd": Decimal("0.00000015"), "output_usd": Decimal("0.0000006")}
    assert second == {"cached_input_usd": Decimal("0.0000001")}


def test_secrets_are_read_from_the_environment() -> None:
    """LiteLLM's `os.environ/NAME` stands for the variable's value, anywhere in the file."""
    text = GOOD.replace("sk-1", "os.environ/KEY") + "redis_url: os.environ/REDIS\n"

    config = parse_config(text, "relay.yaml", {"KEY": "sk-env", "REDIS": "redis://cache"})

    assert config.model_list[0].litellm_params.api_key == "sk-env"
    assert config.redis_url == "redis://cache"


def test_secrets_do_not_show() -> None:
    """Keys and addresses with passwords are not in the configuration's `repr`."""
    config = read("redis_url: redis://:hunter2@cache\ndatabase_url: postgresql://u:hunter3@db/r\n")

    shown = repr(config)
    assert "sk-1" not in shown
    assert "hunter" not in shown


def test_environment_wins_over_the_file() -> None:
    """A variable replaces the file's value, at any depth and whatever the case of a tier's name."""
    config = parse_config(
        GOOD.replace("free", "Free") + "redis_url: redis://file\ntimeouts: {connect_s: 1}\n",
        "relay.yaml",
        {
            "RELAY_REDIS_URL": "redis://variable",
            "RELAY_TIMEOUTS__CONNECT_S": "2.5",
            "RELAY_TIERS__FREE__MAX_OUTPUT_TOKENS": "77",
            "RELAY_TIERS__FREE__TOKEN_LIMITS": '["5/minute"]',
            "RELAY_DRAIN_TIMEOUT_S": "7",
            "RELAY_CORS_ORIGINS": '["https://app.example"]',
            "RELAY_PRICES": '{"openai/gpt-4o-mini": {"usd_per_million_input_tokens": 0.1}}',
        },
    )

    assert config.redis_url == "redis://variable"
    assert config.timeouts.connect_s == 2.5
    assert config.tiers["Free"].max_output_tokens == 77
    assert config.tiers["Free"].token_limits == (TokenLimit("5/minute", 5, 60),)
    assert config.drain_timeout_s == 7
    assert config.cors_origins == ("https://app.example",)
    assert config.model_list[0].litellm_params.rates_usd == {"input_usd": Decimal("1e-7")}


@pytest.mark.parametrize("value", ["null", "embedded"])
def test_the_embedded_store_can_be_named(value: str) -> None:
    """`embedded` says in the environment what null says in the file."""
    assert read(f"redis_url: {value}\n").redis_url is None


def test_variables_of_others_are_left_alone() -> None:
    """What Kubernetes sets for a service called `relay`, and our own switches, are no settings."""
    environ = {
        "RELAY_SERVICE_HOST": "10.0.0.1",
        "RELAY_PORT_8000_TCP_ADDR": "10.0.0.1",
        "RELAY_REDIS_SERVICE_PORT": "6379",
        "RELAY_PORT": "tcp://10.0.0.1:8000",
        "RELAY_CONFIG": "relay.yaml",
        "RELAY_REQUIRE": "redis",
    }

    assert read(environ=environ) == read()


def test_yaml_keeps_its_own_means() -> None:
    """Anchors and merge keys work, and a key beside a merge wins."""
    config = parse_config(
        GOOD.replace("free: {models: [smart]}", "free: &free {models: [smart]}")
        + "cors_origins: []\n",
        "relay.yaml",
        {},
    )
    merged = parse_config(
        GOOD.replace(
            "  free: {models: [smart]}",
            "  free: &free {models: [smart], max_output_tokens: 5}\n"
            "  pro: {<<: *free, max_output_tokens: 6}",
        ),
        "relay.yaml",
        {},
    )

    assert config.tiers["free"].models == frozenset({"smart"})
    assert merged.tiers["pro"].models == frozenset({"smart"})
    assert merged.tiers["pro"].max_output_tokens == 6


def test_the_largest_limit() -> None:
    """A limit may be as large as what counts exactly, and no larger."""
    most = with_tier("spend_limits: [{cents: 900719925.4740991, per: month}]")
    more = with_tier("spend_limits: [{cents: 900719925.4740992, per: month}]")

    limits = parse_config(most, "relay.yaml", {}).tiers["free"].spend_limits

    assert limits == {Period.MONTH: MAX_NANO_USD}
    assert (
        "line 7: tiers.free.spend_limits[0].cents: 900719925.4740992 is more than the largest "
        "amount that counts exactly, 900719925.4740991 cents"
    ) in complaint(more)


TIER_MISTAKES = {
    "token_limits: [40k/minute]": "token_limits[0]: '40k/minute' is no token limit; write it as",
    "token_limits: [40000]": "token_limits[0]: 40000 is no token limit; write it as 40000/minute",
    "token_limits: 9/day": "token_limits: '9/day' must be a list",
    "token_limits: [1/minute; 2/hour]": (
        "token_limits[0]: '1/minute; 2/hour' holds several token limits; make each an item"
    ),
    "token_limits: [0/minute]": "token_limits[0]: '0/minute' admits no request at all",
    "token_limits: [1000000/month]": (
        "token_limits[0]: '1000000/month' has a window longer than a day; use spend_limits"
    ),
    "token_limits: [9 per 25 hours]": "token_limits[0]: '9 per 25 hours' has a window longer than",
    "token_limits: [2147483648/day]": (
        "token_limits[0]: '2147483648/day' is more than the largest number of tokens that counts, "
        "2147483647"
    ),
    "token_limits: [9/minute, 3/second, 8 per 60 seconds]": (
        "token_limits: has 9/minute and 8 per 60 seconds, over the same time; keep one"
    ),
    "max_concurrency: 0": (
        "max_concurrency: 0 admits no request at all; give it 1 or more, or block the customer"
    ),
    "max_concurrency: -1": "max_concurrency: -1 admits no request at all",
    "max_concurrency: true": "max_concurrency: True must be a number, not a boolean",
    "max_concurrency: 2147483648": "max_concurrency: 2147483648 must be less than or equal to",
    "rpm_limit: 20": "rpm_limit: write it as rate_limits: [20/minute]",
    "tpm_limit: 40000": "tpm_limit: write it as token_limits: [40000/minute]",
    "max_parallel_requests: 4": "max_parallel_requests: write it as max_concurrency",
    "on_insufficient: stop": "on_insufficient: 'stop' must be 'reject' or 'shrink'",
    "min_output_tokens: 0": "min_output_tokens: 0 must be greater than or equal to 1",
    "on_disconnect: wait": "on_disconnect: 'wait' must be 'drain' or 'cancel'",
    "on_outage: ajar": "on_outage: 'ajar' must be 'closed' or 'open'",
    "modles: 1": "modles: is no key here; did you mean 'models'?",
    "default_model: smrt": "default_model: there is no model_name 'smrt'; did you mean 'smart'?",
    "default_model: spare": "default_model: 'spare' is not among the tier's models; add it there",
    "rate_limits: [20/fortnight]": "rate_limits[0]: '20/fortnight' is no rate limit; write it as",
    "rate_limits: [1/day; 2/hour]": "rate_limits[0]: '1/day; 2/hour' holds several rate limits",
    "rate_limits: [0/day]": "rate_limits[0]: '0/day' admits no request at all",
    "rate_limits: 1/day": "rate_limits: '1/day' must be a list",
    "rate_limits: [5 per 2 years]": (
        "rate_limits[0]: '5 per 2 years' has a window longer than a year"
    ),
    "rate_limits: [9/minute, 3/second, 8 per 60 seconds]": (
        "rate_limits: has 9/minute and 8 per 60 seconds, over the same time; keep one"
    ),
    "spend_limits: [{cents: 1, per: day}, {cents: 2, per: day}]": (
        "spend_limits[1].per: there is a limit per day above already; keep one"
    ),
    "spend_limits: [{cents: 1, per: year}]": (
        "spend_limits[0].per: 'year' must be 'day', 'week', 'month' or 'lifetime'"
    ),
    "spend_limits: [{cents: -1, per: day}]": (
        "spend_limits[0].cents: -1 must be a finite number, 0 or more"
    ),
    "spend_limits: [{cents: .nan, per: day}]": "spend_limits[0].cents: nan must be a finite number",
    "spend_limits: [{cents: true, per: day}]": (
        "spend_limits[0].cents: True must be a number, not a boolean"
    ),
    "spend_limits: [{cents: 0.00000001, per: day}]": (
        "spend_limits[0].cents: 1E-8 is finer than a nano-dollar; give it at most 7 decimals"
    ),
    "spend_limits: [{cents: 1}]": "spend_limits[0].per: is missing",
    "default_output_tokens: 9, max_output_tokens: 8": (
        "default_output_tokens: 9 is more than max_output_tokens, 8; lower it or raise the other"
    ),
    "max_output_tokens: 0": "max_output_tokens: 0 must be greater than or equal to 1",
    "max_output_tokens: 1.5": "max_output_tokens: 1.5 must be a valid integer",
    "margin: {percent: cheap}": "margin.percent: 'cheap' must be a number",
    "margin: 20": "margin: 20 must be a mapping (key: value)",
}


@pytest.mark.parametrize(("members", "told"), TIER_MISTAKES.items(), ids=TIER_MISTAKES)
def test_mistake_in_a_tier(members: str, told: str) -> None:
    """A mistake in a tier is told with its line, key, value and remedy."""
    assert f"\n  line 7: tiers.free.{told}" in complaint(with_tier(members))


PARAMS_MISTAKES = {
    "rpm: 3": "rpm: is not read; remove it, give deployments a weight, and tiers rate_limits",
    "timeout: 3": "timeout: set timeouts.non_stream_s beside litellm_params",
    "stream_timeout: 3": "stream_timeout: set timeouts.first_event_s beside litellm_params",
    "api_baze: x": "api_baze: is no key here; did you mean 'api_base'?",
    "api_base: example.com": "api_base: 'example.com' must begin with http:// or https://",
    "weight: 0": "weight: 0 must be greater than 0",
    "order: -1": "order: -1 must be greater than or equal to 0",
    "input_cost_per_token: x": "input_cost_per_token: 'x' must be a number",
}


@pytest.mark.parametrize(("members", "told"), PARAMS_MISTAKES.items(), ids=PARAMS_MISTAKES)
def test_mistake_in_a_deployment(members: str, told: str) -> None:
    """A mistake in a deployment is told with its line, key, value and remedy."""
    expected = f"\n  line 3: model_list[0].litellm_params.{told}"
    assert expected in complaint(with_params(members))


TOP_MISTAKES = {
    "tires: {}": "tires: is no key here; did you mean 'tiers'?",
    "litellm_settings: {}": "litellm_settings: LiteLLM's global settings do not reach the calls",
    "general_settings: {}": "general_settings: belongs to LiteLLM's proxy; remove it",
    "environment_variables: {}": "environment_variables: is not read",
    "router_settings: {num_retries: 2}": "router_settings.num_retries: Relay never repeats a call",
    "router_settings: {debug_level: DEBUG}": (
        "router_settings.debug_level: the log is JSON, a line for each request; remove it"
    ),
    "router_settings: {routing_strategy: least-busy}": (
        "router_settings.routing_strategy: 'least-busy' is not offered"
    ),
    "router_settings: {fallbacks: [{smrt: [spare]}]}": (
        "router_settings.fallbacks[0].smrt: there is no model_name 'smrt'; did you mean 'smart'?"
    ),
    "router_settings: {fallbacks: [{smart: [sprae]}]}": (
        "router_settings.fallbacks[0].smart[0]: there is no model_name 'sprae'; did you mean"
    ),
    "router_settings: {fallbacks: [{smart: [smart]}]}": (
        "router_settings.fallbacks[0].smart[0]: 'smart' is its own fallback; remove it"
    ),
    "router_settings: {fallbacks: [{smart: [spare]}, {smart: [spare]}]}": (
        "router_settings.fallbacks[1].smart: has fallbacks above already; put them into one list"
    ),
    "router_settings: {cooldown_time: 0}": "router_settings.cooldown_time: 0 must be greater than",
    "redis_url: http://cache": "redis_url: must begin with redis://, rediss:// or unix://; null",
    "max_body_bytes: ": "max_body_bytes: (nothing) must be a valid integer",
    "database_url: mysql://db": "database_url: must begin with sqlite:/// or postgresql://",
    "database_url: 'sqlite:///:memory:'": "database_url: must name a file",
    "database_url: 'sqlite:///'": "database_url: must name a file",
    "timeouts: {connect_s: .inf}": "timeouts.connect_s: inf must be a finite number",
    "timeouts: {connect_s: 1:30}": "timeouts.connect_s: '1:30' must be a valid number",
    "drain_timeout_s: 0": "drain_timeout_s: 0 must be greater than or equal to 1",
    "max_body_bytes: lots": "max_body_bytes: 'lots' must be a valid integer",
    "max_body_bytes: 2000-01-01": "max_body_bytes: '2000-01-01' must be a valid integer",
    "cors_origins: [app.example]": "cors_origins[0]: 'app.example' is no origin; write it as",
    "state_dir: [a]": "state_dir: must be",
    "prices: {gpt-4: {usd_per_million_input_tokens: 1}}": (
        "prices.gpt-4: no deployment has the litellm_params.model 'gpt-4'; there is openai/gpt-4.1"
    ),
    "prices: {openai/gpt-4o-mini: {usd_per_token: 1}}": (
        "prices.openai/gpt-4o-mini.usd_per_token: is no key here; "
    ),
}


@pytest.mark.parametrize(("line", "told"), TOP_MISTAKES.items(), ids=TOP_MISTAKES)
def test_mistake_at_the_top(line: str, told: str) -> None:
    """A mistake in the other sections is told with its line, key, value and remedy."""
    assert f"\n  line 9: {told}" in complaint(f"{GOOD}{line}\n")


CUSTOMER_MISTAKES = {
    "{default_tier: fre}": "default_tier: there is no tier 'fre'; did you mean 'free'?",
    "{unknown: create}": "customers.default_tier: is missing: the tier of customers that are",
    "{default_tier: free, unknown: maybe}": "unknown: 'maybe' must be 'create' or 'reject'",
    "{default_tier: free, headers: []}": "headers: is empty; there must be one at least",
    "{default_tier: free, headers: [a b]}": "headers[0]: 'a b' is no header name",
    "{default_tier: free, headers: [Cookie]}": "headers[0]: 'Cookie' carries a secret",
}


@pytest.mark.parametrize(("members", "told"), CUSTOMER_MISTAKES.items(), ids=CUSTOMER_MISTAKES)
def test_mistake_about_customers(members: str, told: str) -> None:
    """A mistake in `customers` is told with its line, key, value and remedy."""
    message = complaint(GOOD.replace("{default_tier: free}", members))

    assert "line 8: customers" in message
    assert told in message


def test_default_tier_may_be_missing_where_none_is_created() -> None:
    """Only customers that a request creates need a default tier."""
    config = parse_config(
        GOOD.replace("{default_tier: free}", "{unknown: reject}"), "relay.yaml", {}
    )

    assert config.customers.default_tier is None


def test_equal_deployments() -> None:
    """Two entries that are one deployment are told: one would only be counted twice."""
    message = complaint(
        GOOD.replace("spare", "smart")
        .replace("gpt-4.1-mini", "gpt-4o-mini")
        .replace("sk-2", "sk-1")
    )

    assert "line 4: model_list[1]: is the same deployment as model_list[0]" in message


def test_no_models_and_no_tiers() -> None:
    """A file needs a model and a tier."""
    message = complaint("model_list: []\ntiers: {}\ncustomers: {unknown: reject}\n")

    assert "line 1: model_list: is empty; there must be one at least" in message
    assert "line 2: tiers: is empty; there must be one at least" in message


def test_timeout_named_twice() -> None:
    """LiteLLM's `timeout` and ours for the same thing are not both accepted."""
    message = complaint(GOOD + "router_settings: {timeout: 3}\ntimeouts: {non_stream_s: 4}\n")

    assert "router_settings.timeout: says the same as timeouts.non_stream_s" in message


def test_a_variable_is_named_in_its_mistake() -> None:
    """A wrong value that came from the environment is told with the variable's name."""
    environ = {
        "RELAY_TIMEOUTS__CONECT_S": "2",
        "RELAY_MAX_BODY_BYTES": "many",
        "RELAY_CORS_ORIGINS": "https://a.example",
        "RELAY_REDIS_ULR": "redis://cache",
        "RELAY_PRICES": '{"openai/gpt-4o-mini": {"usd_per_million_input_tokens": "x"}}',
    }

    message = complaint(GOOD, environ)

    assert "RELAY_TIMEOUTS__CONECT_S: is no key here; did you mean 'connect_s'?" in message
    assert "RELAY_MAX_BODY_BYTES: 'many' must be a valid integer" in message
    assert "RELAY_CORS_ORIGINS: 'https://a.example' must be a list" in message
    assert "RELAY_REDIS_ULR: is no setting; did you mean 'redis_url'?" in message
    assert "RELAY_PRICES (openai/gpt-4o-mini.usd_per_million_input_tokens): 'x'" in message


@pytest.mark.parametrize(
    ("environ", "told"),
    [({}, "KEY is not set; set it"), ({"KEY": ""}, "KEY is empty; set it")],
    ids=["missing", "empty"],
)
def test_missing_secret(environ: Mapping[str, str], told: str) -> None:
    """A secret that the environment does not have is told once, by name."""
    message = complaint(GOOD + "redis_url: os.environ/KEY\n", environ)

    assert message == (
        f"relay.yaml has a mistake:\n  line 9: redis_url: the environment variable {told}"
    )


def test_all_mistakes_at_once_in_the_order_of_the_file() -> None:
    """Mistakes of every kind are reported together, by line."""
    message = complaint(
        GOOD.replace("openai/gpt-4o-mini", "os.environ/NO").replace("[smart]", "[smrt]")
        + "max_body_bytes: 0\nredis_url: null\nredis_url: null\n"
    )

    lines = [line.split(":")[0].strip() for line in message.splitlines()[1:]]
    assert lines == ["line 3", "line 7", "line 9", "line 11"]
    assert message.startswith("relay.yaml has 4 mistakes:\n")
    assert "redis_url: stands twice; keep one" in message


def test_secrets_do_not_show_in_mistakes() -> None:
    """A wrong secret is not printed."""
    message = complaint(
        GOOD.replace("sk-1", "[hunter2]") + "redis_url: hunter2\ndatabase_url: hunter2\n"
    )

    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "the file: this is not YAML: "),
        ("- a\n", "the file: must be a mapping: model_list, tiers, ..."),
        ("", "model_list: is missing"),
        ("tiers: &a {b: *a}\n", "is nested too deeply"),
        ("a: " + "[" * 3000 + "]" * 3000, "the file: is nested too deeply"),
        ("a: \x07\n", "the file: this is not YAML: "),
        ("a: !!python/none x\n", "the file: this is not YAML: could not determine a constructor"),
    ],
    ids=["syntax", "sequence", "empty", "endless", "deep", "control", "tag"],
)
def test_no_configuration_at_all(text: str, told: str) -> None:
    """A file that is something else is refused in one line per mistake."""
    assert told in complaint(text)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is told with its path."""
    with pytest.raises(ConfigurationError, match=r"none\.yaml: No such file or directory"):
        load_config(tmp_path / "none.yaml")


def test_file_of_other_encoding(tmp_path: Path) -> None:
    """A file that is not UTF-8 is told with its path."""
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: \xe9\n")

    with pytest.raises(ConfigurationError, match=r"latin\.yaml: it is not UTF-8"):
        load_config(path)


def test_a_file_is_read(tmp_path: Path) -> None:
    """A file is read with the process's own environment."""
    path = tmp_path / "relay.yaml"
    path.write_text(GOOD, encoding="utf-8")

    assert load_config(path).model_list[0].model_name == "smart"
