"""What this provider offers Airflow."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form of Airflow's ``provider_info.schema.json``."""
    from airflow_provider_voucherify import __version__
    from airflow_provider_voucherify.connection import form as connection_form

    package = "airflow_provider_voucherify"

    def modules(kind: str, *names: str) -> list[dict[str, Any]]:
        return [{"integration-name": "Voucherify", "python-modules": [f"{package}.{kind}.{name}" for name in names]}]

    asset_uris = [
        {
            "schemes": ["voucherify"],
            "handler": f"{package}.assets.voucherify.sanitize_uri",
            "factory": f"{package}.assets.voucherify.create_asset",
            "to_openlineage_converter": f"{package}.assets.voucherify.convert_asset_to_openlineage",
        }
    ]
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
        "operators": modules("operators", "bulk", "export", "import_csv", "reconcile"),
        "sensors": modules("sensors", "async_action"),
        "triggers": modules("triggers", "async_action", "export"),
        "asset-uris": asset_uris,
        "dataset-uris": asset_uris,  # what Airflow 2 calls them
        "task-decorators": [
            {
                "name": "voucherify_bulk_update",
                "class-name": f"{package}.decorators.bulk.voucherify_bulk_update_task",
            },
            {
                "name": "voucherify_bulk_metadata",
                "class-name": f"{package}.decorators.bulk.voucherify_bulk_metadata_task",
            },
        ],
        "notifications": [f"{package}.notifications.summary.VoucherifySummaryNotifier"],
        "extra-links": [
            f"{package}.links.async_action.VoucherifyAsyncActionsLink",
            f"{package}.links.async_action.VoucherifyDashboardLink",
            f"{package}.links.async_action.VoucherifyExportedFileLink",
            f"{package}.links.async_action.VoucherifyReportLink",
            f"{package}.links.async_action.VoucherifyRunPageLink",
        ],
        "cli": [f"{package}.probe.command.get_cli_commands"],
        "plugins": [
            {"name": "voucherify_syncs", "plugin-class": f"{package}.plugins.syncs.VoucherifySyncsPlugin"},
        ],
        "connection-types": [
            {
                "connection-type": "voucherify",
                "hook-class-name": f"{package}.hooks.voucherify.VoucherifyHook",
                "hook-name": "Voucherify",
                "ui-field-behaviour": connection_form.ui_field_behaviour(),
                "conn-fields": connection_form.conn_fields(),
            }
        ],
    }
