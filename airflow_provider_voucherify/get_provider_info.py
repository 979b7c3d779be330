"""What this provider offers Airflow."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form of Airflow's ``provider_info.schema.json``."""
    from airflow_provider_voucherify import __version__

    package = "airflow_provider_voucherify"

    def modules(kind: str, *names: str) -> list[dict[str, Any]]:
        return [{"integration-name": "Voucherify", "python-modules": [f"{package}.{kind}.{name}" for name in names]}]

    return {
        "package-name": "airflow-provider-voucherify",
        "name": "Voucherify",
        "description": "Bulk updates of customers, products and vouchers in `Voucherify <https://www.voucherify.io/>`__.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Voucherify",
                "external-doc-url": "https://docs.voucherify.io/",
                "tags": ["service"],
            }
        ],
        "hooks": modules("hooks", "voucherify"),
        "operators": modules("operators", "bulk"),
        "sensors": modules("sensors", "async_action"),
        "triggers": modules("triggers", "async_action"),
        "notifications": [f"{package}.notifications.summary.VoucherifySummaryNotifier"],
        "extra-links": [
            f"{package}.links.async_action.VoucherifyAsyncActionsLink",
            f"{package}.links.async_action.VoucherifyReportLink",
        ],
        "connection-types": [
            {
                "connection-type": "voucherify",
                "hook-class-name": f"{package}.hooks.voucherify.VoucherifyHook",
                "hook-name": "Voucherify",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port", "extra"],
                    "relabeling": {
                        "host": "API base URL or region",
                        "login": "Application ID",
                        "password": "Secret key",
                    },
                    "placeholders": {
                        "host": "https://api.voucherify.io (or eu, us1, as1)",
                        "login": "X-App-Id, from Project settings",
                        "password": "X-App-Token, from Project settings",
                    },
                },
                "conn-fields": {
                    "auth_method": {
                        "label": "Auth method",
                        "description": "api_keys sends the keys with each request, oauth trades them for a token.",
                        "schema": {"type": ["string", "null"], "enum": ["api_keys", "oauth"], "default": "api_keys"},
                    },
                    "scope": {
                        "label": "OAuth scope",
                        "description": "Space-separated; only for oauth. Default: what this provider needs.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "poll_interval": {
                        "label": "Poll interval (s)",
                        "description": "Longest pause between two looks at an unfinished async action. Default: 60.",
                        "schema": {"type": ["number", "null"], "minimum": 0.01},
                    },
                    "timeout": {
                        "label": "Timeout (s)",
                        "description": "For a request to be taken and answered. Default: 150; the vendor's limit: 180.",
                        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 179},
                    },
                    "connect_timeout": {
                        "label": "Connect timeout (s)",
                        "description": "Default: 10.",
                        "schema": {"type": ["number", "null"], "minimum": 0.1, "maximum": 179},
                    },
                    "api_version": {
                        "label": "API version",
                        "description": "X-Voucherify-API-Version. Default: v2018-08-01.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "allow_http": {
                        "label": "Allow http",
                        "description": "Permit plain http to another machine; the secret key travels unencrypted.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            }
        ],
    }
