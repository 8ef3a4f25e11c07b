"""
Members of a body that name a route or a credential.

The direct wire would pass them to a provider, who would ignore them; a translated one would turn
them into keyword arguments. Neither may happen, and a client that sends one should know.
"""

CREDENTIAL_MEMBERS = frozenset(
    [
        "anthropic_disable_workload_identity_federation",
        "anthropic_federation_rule_id",
        "anthropic_federation_workspace_id",
        "anthropic_identity_source",
        "anthropic_identity_token",
        "anthropic_identity_token_file",
        "anthropic_issuer_audience",
        "anthropic_issuer_signing_key_ref",
        "anthropic_issuer_subject",
        "anthropic_issuer_ttl_seconds",
        "anthropic_issuer_url",
        "anthropic_keycloak_auth_method",
        "anthropic_keycloak_client_id",
        "anthropic_keycloak_client_secret_ref",
        "anthropic_keycloak_scope",
        "anthropic_keycloak_token_url",
        "anthropic_organization_id",
        "anthropic_service_account_id",
        "api_base",
        "api_key",
        "api_version",
        "aws_access_key_id",
        "aws_batch_role_arn",
        "aws_bedrock_project_id",
        "aws_bedrock_runtime_endpoint",
        "aws_external_id",
        "aws_profile_name",
        "aws_region_name",
        "aws_role_name",
        "aws_secret_access_key",
        "aws_session_name",
        "aws_session_tags",
        "aws_session_token",
        "aws_sts_endpoint",
        "aws_web_identity_token",
        "azure_ad_token",
        "azure_password",
        "azure_scope",
        "azure_username",
        "bedrock_tags",
        "bucket_name",
        "client_id",
        "client_secret",
        "gcs_bucket_name",
        "openai_identity_provider_id",
        "openai_identity_token_file",
        "openai_service_account_id",
        "region_name",
        "s3_access_key_id",
        "s3_bucket_name",
        "s3_bucket_owner",
        "s3_encryption_key_id",
        "s3_endpoint_url",
        "s3_output_bucket_name",
        "s3_region_name",
        "s3_secret_access_key",
        "tenant_id",
        "vertex_credentials",
        "vertex_location",
        "vertex_project",
        "watsonx_region_name",
    ]
)
"""The fields of `CredentialLiteLLMParams` in LiteLLM 1.106.2; a test compares."""

ROUTE_MEMBERS = frozenset(
    ["base_url", "custom_llm_provider", "extra_headers", "fallbacks", "mock_response", "model_list"]
)
"""What else LiteLLM takes as a route, a credential or an answer of its own."""

FORBIDDEN_MEMBERS = CREDENTIAL_MEMBERS | ROUTE_MEMBERS
"""Refused in every body."""
