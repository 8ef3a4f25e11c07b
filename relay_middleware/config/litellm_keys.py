"""
What LiteLLM's proxy takes and Relay does not, with what to do instead: so that a file of the one
can be pasted into the other and be mended line by line.

Source: LiteLLM's documentation, "All settings" of its proxy, read 2026-11-24.
"""

from collections.abc import Mapping

_NOT_BUILT = "is not built yet; remove it"
_LEDGER = "every request is a row in the ledger and a line of JSON in the log; remove it"
_ONE_CALL = (
    "Relay never repeats a call at the same deployment; list a second one under the same "
    "model_name, or a fallback"
)
_SPEND_LIMITS = "set spend_limits of a tier; 'relay customers set-limit' gives one customer its own"
_KEYS = "keys are made with 'relay keys create'; remove it"
_OTHER_APIS = "Relay serves chat completions and embeddings; remove it"
_NO_CACHE = "Relay keeps no answers; remove it"
_NO_TEAMS = "there are no teams: a customer is in a tier; remove it"
_TELLS_NOBODY = "Relay calls nobody: " + _LEDGER
_FILE_ONLY = "models are read from this file, at start; remove it"
_BY_ITSELF = "is not needed: limits are exact without a job, and the ledger is written in batches"
_POOL = "is not needed: requests wait for no database; remove it"
_HEALTH = (
    "a failing deployment is left out by itself, and 'relay deployments --probe' tries all; remove "
    "it"
)
_LITELLM_GLOBAL = "LiteLLM's global settings do not reach the calls that Relay makes; remove it"
_PROXY_ONLY = "belongs to LiteLLM's proxy; remove it"

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
    "guardrails": _PROXY_ONLY,
    "prompts": _PROXY_ONLY,
    "policies": _PROXY_ONLY,
    "callback_settings": _TELLS_NOBODY,
    "health_check": _HEALTH,
    "credential_list": "put the credentials into the litellm_params of each deployment",
    "include": "there is one file; put everything into it",
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
        "request_timeout": "set timeouts.non_stream_s at the top",
        "drop_params": "what a provider does not take is dropped and named in the header "
        "x-relay-dropped-parameters; remove it",
        "modify_params": "Relay changes nothing of a conversation; remove it",
        "cache": _NO_CACHE,
        "cache_params": _NO_CACHE,
        "callbacks": _TELLS_NOBODY,
        "success_callback": _TELLS_NOBODY,
        "failure_callback": _TELLS_NOBODY,
        "service_callback": _TELLS_NOBODY,
        "service_callbacks": _TELLS_NOBODY,
        "set_verbose": "each request is a line of JSON in the log; remove it",
        "json_logs": "the log is JSON; remove it",
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
        "coordination_redis": "set redis_url at the top",
        "use_redis_transaction_buffer": _BY_ITSELF,
        "proxy_budget_rescheduler_min_time": _BY_ITSELF,
        "proxy_budget_rescheduler_max_time": _BY_ITSELF,
        "proxy_batch_write_at": _BY_ITSELF,
        "disable_spend_logs": _LEDGER,
        "store_prompts_in_spend_logs": "prompts are never stored; remove it",
        "pass_through_endpoints": "Relay serves no other paths; mount it in an application of your "
        "own that does",
        "custom_auth": "mount RelayMiddleware in your application with customer=, which says who "
        "asks",
        "user_header_name": "set customers.headers",
        "user_header_mappings": "set customers.headers",
        "max_parallel_requests": _NOT_BUILT,
        "global_max_parallel_requests": _NOT_BUILT,
        "background_health_checks": _HEALTH,
        "health_check_interval": _HEALTH,
        "alerting": _TELLS_NOBODY,
        "alerting_threshold": _TELLS_NOBODY,
        "allowed_ips": "let your load balancer decide who reaches Relay; remove it",
    },
    "environment_variables": {},
}

MODEL_INFO: Mapping[str, str] = {
    "id": "deployments are named after their model_name, smart#1, smart#2; remove it",
    "input_cost_per_token": "move it to litellm_params",
    "output_cost_per_token": "move it to litellm_params",
    "health_check_timeout": _HEALTH,
    "description": "write it as a comment",
}

MODEL: Mapping[str, str] = {
    "rpm": "is not read; give deployments a weight, and tiers rate_limits",
    "tpm": "is not read; give deployments a weight",
}

PARAMS: Mapping[str, str] = {
    **MODEL,
    "timeout": "set timeouts.non_stream_s beside litellm_params",
    "stream_timeout": "set timeouts.first_event_s beside litellm_params",
    "max_retries": _ONE_CALL,
    "num_retries": _ONE_CALL,
    "max_tokens": "set max_output_tokens of a tier",
    "temperature": "the client's request says it; remove it",
    "top_p": "the client's request says it; remove it",
    "input_cost_per_second": "Relay prices tokens; set input_cost_per_token",
    "output_cost_per_second": "Relay prices tokens; set output_cost_per_token",
    "custom_llm_provider": "write it before the model: model: PROVIDER/MODEL",
    "organization": "a key belongs to one organization; remove it, or use another key",
    "base_url": "write it as api_base",
    "drop_params": "what a provider does not take is dropped and named in the header "
    "x-relay-dropped-parameters; remove it",
    "extra_body": "Relay adds nothing to what clients ask; remove it",
    "extra_headers": "Relay sends no headers of its own choosing; remove it",
    "mock_response": "answers come from providers; for trying out there is 'relay demo'",
    "mock_timeout": "answers come from providers; for trying out there is 'relay demo'",
    "tags": "Relay does not choose by tags; give each choice a model_name of its own",
}

ROUTER: Mapping[str, str] = {
    "num_retries": _ONE_CALL,
    "max_retries": _ONE_CALL,
    "retry_after": "Relay never repeats a call at the same deployment; remove it",
    "retry_policy": _ONE_CALL,
    "stream_timeout": "set timeouts.first_event_s at the top",
    "redis_url": "move it to the top",
    "redis_host": "set redis_url at the top",
    "redis_port": "set redis_url at the top",
    "redis_password": "set redis_url at the top",
    "model_group_alias": "list the deployments under the second model_name too",
    "default_fallbacks": "name the fallbacks of each model under fallbacks",
    "enable_pre_call_checks": "a request that a model cannot take is refused by its provider; "
    "remove it",
    "context_window_fallbacks": _NOT_BUILT,
    "content_policy_fallbacks": _NOT_BUILT,
}
