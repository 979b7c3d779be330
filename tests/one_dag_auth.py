"""An auth manager whose viewers see one DAG alone, as those with rights for each DAG do (FAB, Keycloak)."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

DAG_OF_VIEWERS = "segments"


class OneDagAuthManager(SimpleAuthManager):
    """Airflow's simple one, with a right for one DAG in place of that for all."""

    def is_authorized_dag(self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        """Let viewers see one DAG."""
        allowed = super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
        of_another = details is None or details.id != DAG_OF_VIEWERS
        return allowed and not (user.role.upper() == "VIEWER" and of_another)
