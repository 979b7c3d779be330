"""
The page "Voucherify syncs" in Airflow's user interface, from Airflow 3.1 on; older versions have no place for it.

Every component of Airflow imports this module; what serves the page is imported only where an API server asks for it.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin

PREFIX = "/voucherify"
"""Of what the page asks for."""


class VoucherifySyncsPlugin(AirflowPlugin):
    """Adds the page, and what it asks for under ``/voucherify``."""

    name = "voucherify_syncs"
    react_apps = [  # noqa: RUF012
        {
            "name": "Voucherify syncs",
            "bundle_url": f"{PREFIX[1:]}/static/syncs.js",  # below the base URL, whatever its path
            "destination": "nav",
            "category": "browse",
            "url_route": "voucherify_syncs",  # compat.SYNCS_ROUTE, which is not imported here
        }
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The application that an API server mounts; none in a version of Airflow that has no such pages."""
        from airflow_provider_voucherify.compat import has_plugin_pages

        if not has_plugin_pages():
            return []
        from airflow_provider_voucherify.plugins.app import make_app

        return [{"app": make_app(), "url_prefix": PREFIX, "name": "Voucherify syncs"}]
