"""
What LiteLLM's proxy takes and Relay does not, with what to do instead: so that a file of the one
can be pasted into the other and be mended line by line.

Source: LiteLLM's documentation, "All settings" of its proxy, read 2026-11-24; what LiteLLM 1.106.2
declares (`ConfigGeneralSettings`, `Router`, `LiteLLM_Params`, `ModelInfo`); published files.
"""

from collections.abc import Mapping

_NOT_BUILT = "is not built yet; remove it"
_LEDGER = "every request is a row in the ledger and a line of JSON in the log; remove it"
_ONE_CALL = (
    "Relay never repeats a call at the same deployment; remove it, and list a second one under the "
    "same model_name, or a fallback"
)
_SPEND_LIMITS = "set spend_limits of a tier; 'relay customers set-limit' gives one customer its own"
_KEYS = "keys are made with 'relay keys create'; remove it"
_OTHER_APIS = "Relay serves chat completions and embeddings; remove it"
_OTHER_PATHS = (
    "Relay serves no other paths; remove it, and mount Relay in an application of your own that "
    "does"
)
_NO_CACHE = "Relay keeps no answers; remove it"
_MAX_CONCURRENCY = "set max_concurrency of a tier, which bounds each of its customers"
_NO_TEAMS = "there are no teams: a customer is in a tier; remove it"
_TELLS_NOBODY = "Relay calls nobody: " + _LEDGER
_FILE_ONLY = "models are read from this file, at start; remove it"
_BY_ITSELF = (
    "is not needed: limits are exact without a job, and the ledger is written in batches; remove it"
)
_POOL = "is not needed: requests wait for no database; remove it"
_HEALTH = (
    "a failing deployment is left out by itself, and 'relay deployments --probe' tries all; remove "
    "it"
)
_LITELLM_GLOBAL = "LiteLLM's global settings do not reach the calls that Relay makes; remove it"
_PROXY_ONLY = "belongs to LiteLLM's proxy; remove it"
_OWN_AUTH = "remove it, and mount RelayMiddleware in your application with customer=, which says "
_OWN_AUTH += "who asks"
_SECRETS = "write os.environ/NAME, and let what starts Relay set the variable; remove it"
_JSON_LOG = "the log is JSON, a line for each request; remove it"
_DROPPED = (
    "what a provider does not take is dropped and named in the header x-relay-dropped-parameters; "
    "remove it"
)
_FROM_THE_CLIENT = "the client's request says it; remove it"
_NO_PARAMETERS = "Relay adds nothing to what clients ask; remove it"
_NO_HEADERS = "Relay sends no headers of its own choosing; remove it"
_NO_TAGS = "Relay does not choose by tags; remove it, and give each choice a model_name of its own"
_NO_RPM = "is not read; remove it, give deployments a weight, and tiers rate_limits"
_NO_TPM = "is not read; remove it, give deployments a weight, and tiers token_limits"
_PER_CUSTOMER = "Relay limits customers, not deployments; remove it, and "
_REDIS_URL = "set redis_url at the top"
_UNCHANGED = "Relay changes nothing of a conversation; remove it"
_BY_NAME = "Relay routes by model_name alone; remove it"
_SIMULATED = "answers come from providers; remove it: for trying out there is 'relay demo'"
_PRICES_TOKENS = "Relay prices tokens; set input_cost_per_token and output_cost_per_token"

SECTIONS: Mapping[str, str] = {
    "litellm_settings": _LITELLM_GLOBAL,
    "general_settings": _PROXY_ONLY,
    "environment_variables": "is not read; set it in the environment of the process",
    "files_settings": _OTHER_APIS,
    "finetune_settings": _OTHER_APIS,
    "assistant_settings": _OTHER_APIS,
    "batch_settings": _OTHER_APIS,
    "vector_store_registry": _OTHER_APIS,
    "search_tools": _OTHER_APIS,
    "sandbox_tools": _PROXY_ONLY,
    "mcp_servers": _OTHER_APIS,
    "mcp_tools": _OTHER_APIS,
    "agents": _OTHER_APIS,
    "agent_list": _OTHER_APIS,
    "pass_through_endpoints": _OTHER_PATHS,
    "guardrails": _PROXY_ONLY,
    "prompts": _PROXY_ONLY,
    "policies": _PROXY_ONLY,
    "policy_attachments": _PROXY_ONLY,
    "plugins": _PROXY_ONLY,
    "classifier_plugin": _PROXY_ONLY,
    "worker_registry": _PROXY_ONLY,
    "callback_settings": _TELLS_NOBODY,
    "health_check": _HEALTH,
    "credential_list": "write the credentials into the litellm_params of each deployment",
    "default_vertex_config": "write the credentials into the litellm_params of each deployment",
    "include": "there is one file; write everything into it",
}
"""What stands at the top, by key. What a section of settings holds is explained key by key."""

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "litellm_settings": {
        "fallbacks": "move it to router_settings.fallbacks",
        "default_fallbacks": "name the fallbacks of each model under router_settings.fallbacks",
        "context_window_fallbacks": _NOT_BUILT,
        "content_policy_fallbacks": _NOT_BUILT,
        "allowed_fails": "move it to router_settings",
        "cooldown_time": "move it to router_settings",
        "num_retries": _ONE_CALL,
        "num_retries_per_request": _ONE_CALL,
        "retry_after": _ONE_CALL,
        "request_timeout": "set timeouts.non_stream_s at the top",
        "drop_params": _DROPPED,
        "additional_drop_params": _DROPPED,
        "modify_params": _UNCHANGED,
        "cache": _NO_CACHE,
        "cache_params": _NO_CACHE,
        "callbacks": _TELLS_NOBODY,
        "success_callback": _TELLS_NOBODY,
        "failure_callback": _TELLS_NOBODY,
        "service_callback": _TELLS_NOBODY,
        "service_callbacks": _TELLS_NOBODY,
        "set_verbose": _JSON_LOG,
        "json_logs": _JSON_LOG,
        "turn_off_message_logging": "messages and answers are never logged; remove it",
        "redact_user_api_key_info": "keys are never logged; remove it",
        "telemetry": "Relay sends none; remove it",
        "max_budget": _SPEND_LIMITS,
        "budget_duration": _SPEND_LIMITS,
        "max_end_user_budget": _SPEND_LIMITS,
        "max_internal_user_budget": _SPEND_LIMITS,
        "internal_user_budget_duration": _SPEND_LIMITS,
        "default_internal_user_params": _SPEND_LIMITS,
        "default_team_settings": _NO_TEAMS,
        "default_team_params": _NO_TEAMS,
        "default_key_generate_params": _KEYS,
        "upperbound_key_generate_params": _KEYS,
    },
    "general_settings": {
        "master_key": "there is no master key: " + _KEYS,
        "database_url": "move it to the top",
        "database_connection_pool_limit": _POOL,
        "database_connection_timeout": _POOL,
        "store_model_in_db": _FILE_ONLY,
        "coordination_redis": _REDIS_URL,
        "use_redis_transaction_buffer": _BY_ITSELF,
        "proxy_budget_rescheduler_min_time": _BY_ITSELF,
        "proxy_budget_rescheduler_max_time": _BY_ITSELF,
        "proxy_batch_write_at": _BY_ITSELF,
        "disable_spend_logs": _LEDGER,
        "store_prompts_in_spend_logs": "prompts are never stored; remove it",
        "pass_through_endpoints": _OTHER_PATHS,
        "custom_auth": _OWN_AUTH,
        "enable_jwt_auth": _OWN_AUTH,
        "litellm_jwtauth": _OWN_AUTH,
        "user_header_name": "set customers.headers",
        "user_header_mappings": "set customers.headers",
        "completion_model": "set default_model of a tier",
        "max_request_size_mb": "set max_body_bytes at the top",
        "max_parallel_requests": _MAX_CONCURRENCY,
        "global_max_parallel_requests": "nothing bounds all customers together; "
        + _MAX_CONCURRENCY,
        "fail_closed_rate_limit_enforcement": "set on_outage of a tier: closed or open",
        "background_health_checks": _HEALTH,
        "health_check_interval": _HEALTH,
        "alerting": _TELLS_NOBODY,
        "alerting_args": _TELLS_NOBODY,
        "alerting_threshold": _TELLS_NOBODY,
        "alert_types": _TELLS_NOBODY,
        "allowed_ips": "let your load balancer decide who reaches Relay; remove it",
        "key_management_system": _SECRETS,
        "key_management_settings": _SECRETS,
        "forward_client_headers_to_llm_api": _NO_HEADERS,
    },
    "environment_variables": {},
}

MODEL_INFO: Mapping[str, str] = {
    "id": "deployments are named after their model_name, smart#1, smart#2; remove it",
    "health_check_timeout": _HEALTH,
    "description": "write it as a comment",
}

MODEL: Mapping[str, str] = {"rpm": _NO_RPM, "tpm": _NO_TPM}

TIER: Mapping[str, str] = {
    "rpm_limit": "write it as rate_limits: [20/minute]",
    "tpm_limit": "write it as token_limits: [40000/minute]",
    "max_parallel_requests": "write it as max_concurrency",
    "max_budget": "write it as spend_limits: [{cents: 500, per: month}]",
    "budget_duration": "write it into spend_limits: [{cents: 500, per: month}]",
}
"""What LiteLLM's keys, users and teams have that a tier has under another name."""

PARAMS: Mapping[str, str] = {
    **MODEL,
    "max_parallel_requests": "nothing bounds a deployment; " + _MAX_CONCURRENCY,
    "itpm": _NO_TPM,
    "otpm": _NO_TPM,
    "timeout": "set timeouts.non_stream_s beside litellm_params",
    "stream_timeout": "set timeouts.first_event_s beside litellm_params",
    "max_retries": _ONE_CALL,
    "num_retries": _ONE_CALL,
    "cooldown_time": "set it in router_settings, for all deployments",
    "max_tokens": "set max_output_tokens of a tier",
    "max_completion_tokens": "set max_output_tokens of a tier",
    **dict.fromkeys(
        (
            *("temperature", "top_p", "top_k", "stop", "seed", "n", "stream", "user", "tools"),
            *("tool_choice", "response_format", "reasoning_effort", "thinking", "verbosity"),
            *("frequency_penalty", "presence_penalty", "service_tier", "dimensions"),
        ),
        _FROM_THE_CLIENT,
    ),
    "extra_body": _NO_PARAMETERS,
    "allowed_openai_params": _NO_PARAMETERS,
    "drop_params": _DROPPED,
    "additional_drop_params": _DROPPED,
    "input_cost_per_second": _PRICES_TOKENS,
    "output_cost_per_second": _PRICES_TOKENS,
    "custom_llm_provider": "write it before the model: model: PROVIDER/MODEL",
    "litellm_credential_name": "write the credential itself, such as api_key: os.environ/NAME",
    "configurable_clientside_auth_params": "a request brings no credentials to a provider; remove "
    "it",
    "organization": "a key belongs to one organization; remove it, or use another key",
    "base_url": "write it as api_base",
    "ssl_verify": "the certificate of a provider is always verified; remove it",
    "headers": _NO_HEADERS,
    "extra_headers": _NO_HEADERS,
    "mock_response": _SIMULATED,
    "mock_timeout": _SIMULATED,
    "tags": _NO_TAGS,
    "max_budget": _PER_CUSTOMER + _SPEND_LIMITS,
    "budget_duration": _PER_CUSTOMER + _SPEND_LIMITS,
    "merge_reasoning_content_in_choices": _UNCHANGED,
    "cache_control_injection_points": _UNCHANGED,
    "use_in_pass_through": _OTHER_PATHS,
}

ROUTER: Mapping[str, str] = {
    "num_retries": _ONE_CALL,
    "max_retries": _ONE_CALL,
    "retry_after": _ONE_CALL,
    "retry_policy": _ONE_CALL,
    "model_group_retry_policy": _ONE_CALL,
    "stream_timeout": "set timeouts.first_event_s at the top",
    "default_max_parallel_requests": "nothing bounds a deployment; " + _MAX_CONCURRENCY,
    "redis_url": "move it to the top",
    **dict.fromkeys(("redis_host", "redis_port", "redis_password", "redis_db"), _REDIS_URL),
    "model_group_alias": "list the deployments under the second model_name too",
    "default_fallbacks": "name the fallbacks of each model under router_settings.fallbacks",
    "max_fallbacks": "all fallbacks are tried; list fewer",
    **dict.fromkeys(
        ("enable_pre_call_checks", "enable_pre_call_check", "optional_pre_call_checks"),
        "a request that a model cannot take is refused by its provider; remove it",
    ),
    "context_window_fallbacks": _NOT_BUILT,
    "content_policy_fallbacks": _NOT_BUILT,
    "allowed_fails_policy": "set allowed_fails, for failures of every kind",
    "disable_cooldowns": "a deployment that fails is left out; remove it, or set allowed_fails "
    "higher",
    "enable_weighted_failover": "is always so; remove it",
    "routing_strategy_args": "is for strategies that are not offered; remove it",
    "default_litellm_params": _NO_PARAMETERS,
    "provider_budget_config": _PER_CUSTOMER + _SPEND_LIMITS,
    "enable_tag_filtering": _NO_TAGS,
    "tag_filtering_match_any": _NO_TAGS,
    "set_verbose": _JSON_LOG,
    "debug_level": _JSON_LOG,
    "cache_responses": _NO_CACHE,
    "cache_kwargs": _NO_CACHE,
    "caching_groups": _NO_CACHE,
    "alerting_config": _TELLS_NOBODY,
}

ROUTER_OTHERWISE = "Relay does not honour this setting of LiteLLM; remove it: it honours "
"""Ends in the keys that Relay takes, as the next ones do."""

PARAMS_OTHERWISE = "Relay does not take this key of LiteLLM's; remove it"

PRICE_OTHERWISE = "Relay takes no such price; remove it: it takes "

MODEL_INFO_OTHERWISE = "is not read; remove it: Relay reads "
