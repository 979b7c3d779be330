"""
The page "Voucherify syncs" in Airflow's user interface, from Airflow 3.1 on; older versions have no place for it.

Every component of Airflow imports this module; what serves the page is imported only where an API server asks for it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

PREFIX = "/voucherify"
"""Of what the page asks for."""


def _address(path: str) -> str:
    """Return an address below the base URL, whose path Airflow 3.1 does not put before it."""
    return urlsplit(str(conf.get("api", "base_url", fallback=""))).path.rstrip("/") + path


class VoucherifySyncsPlugin(AirflowPlugin):
    """Adds the page, and what it asks for under ``/voucherify``."""

    name = "voucherify_syncs"
    react_apps = [  # noqa: RUF012
        {
            "name": "Voucherify syncs",
            "bundle_url": _address(f"{PREFIX}/static/syncs.js"),
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
