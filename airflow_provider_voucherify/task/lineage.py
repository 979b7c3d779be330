"""What a task tells those who follow data: asset events with its summary, and OpenLineage datasets and facets."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_voucherify.compat import BaseHook, events_of_outlets

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

log = logging.getLogger(__name__)

RUN_FACET = "voucherify"
"""Name of the run facet with the counts of the summary."""

_PLACEHOLDER = re.compile(r"%(\(\w+\))?s")


class EmitsLineage:
    """
    Lineage of operators and sensor, as far as they know it. A mixin of ``BaseOperator``.

    Once the task has a ``summary``, its asset events (those of ``outlets=``) have that as their extra, without the
    failed records. OpenLineage gets as inputs the tables of ``sql=`` (where the database's hook says how they are
    named) or the files of ``path=``, as output ``voucherify://<host>`` / ``<resource>`` with the rows and bytes
    written, and the run facet ``voucherify`` with all counts. The message of an error is added by Airflow's
    OpenLineage provider. A dry run has no output.
    """

    outlets: Sequence[Any]
    summary: SyncSummary | None = None

    def _hook(self) -> VoucherifyHook:
        raise NotImplementedError

    def _resource(self) -> str | None:
        raise NotImplementedError

    def post_execute(self, context: Context, result: Any = None) -> None:
        """Give the asset events of this task the summary as extra; Airflow sends them if the task succeeds."""
        if self.summary is not None:
            told = self.summary.model_dump(mode="json", exclude={"failures"})
            for event in events_of_outlets(context, self.outlets):
                event.extra = {**event.extra, **told}
        super().post_execute(context, result)  # type: ignore[misc]  # which is where Airflow 2 calls the author's own

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return datasets and facets; called by Airflow's OpenLineage provider, if it is installed and set up."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        lineage = self._lineage_of_source()
        return OperatorLineage(
            inputs=lineage.inputs,
            outputs=self._outputs(),
            run_facets={**lineage.run_facets, **self._run_facets()},
            job_facets=lineage.job_facets,
        )

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the same of a task that failed; the counts are there if it failed because of them."""
        return self.get_openlineage_facets_on_complete(task_instance)

    def _lineage_of_source(self) -> OperatorLineage[Any, Any]:
        from airflow.providers.common.compat.openlineage.facet import InputDataset
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.facet_v2 import input_statistics_input_dataset

        sql, sql_conn_id = getattr(self, "sql", None), getattr(self, "sql_conn_id", None)
        if sql is not None and sql_conn_id is not None:
            return _lineage_of_query(sql, sql_conn_id)
        path = getattr(self, "path", None)
        if path is None:
            return OperatorLineage()
        datasets = [_dataset_of_path(str(one)) for one in (path if isinstance(path, list | tuple) else [path])]
        facets: dict[str, Any] = {}
        if len(datasets) == 1:
            facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                rowCount=self.summary.rows_read if self.summary is not None else None,
                fileCount=len(getattr(self, "source_files", ())) or 1,
            )
        return OperatorLineage(
            inputs=[InputDataset(namespace=namespace, name=name, inputFacets=facets) for namespace, name in datasets]
        )

    def _outputs(self) -> list[Any]:
        from airflow.providers.common.compat.openlineage.facet import OutputDataset, OutputStatisticsOutputDatasetFacet

        from airflow_provider_voucherify.assets.voucherify import SCHEME

        resource = (self.summary.resource if self.summary is not None else None) or self._resource()
        if resource is None or (self.summary is not None and self.summary.dry_run):
            return []
        try:
            namespace = f"{SCHEME}://{urlsplit(self._hook().settings.base_url).netloc}"
        except Exception as error:
            log.warning("OpenLineage cannot be told where the rows went: %s", error)
            return []
        if self.summary is None:
            return [OutputDataset(namespace=namespace, name=resource)]
        statistics = OutputStatisticsOutputDatasetFacet(
            rowCount=self.summary.succeeded, size=self.summary.bytes_sent or None
        )
        return [OutputDataset(namespace=namespace, name=resource, outputFacets={"outputStatistics": statistics})]

    def _run_facets(self) -> dict[str, Any]:
        from openlineage.client.facet_v2 import RunFacet

        if self.summary is None:
            return {}
        told = self.summary.model_dump(mode="json", exclude={"failures"})
        return {RUN_FACET: RunFacet().with_additional_properties(**{_camel(name): told[name] for name in told})}


def _lineage_of_query(sql: str, sql_conn_id: str) -> OperatorLineage[Any, Any]:
    """
    Return the tables that a query reads, where its hook has what Airflow's own SQL operators need for that.

    OpenLineage's parser does not know the placeholders ``%s`` and ``%(name)s``, so it gets NULL instead.
    """
    from airflow.providers.common.compat.openlineage.facet import SQLJobFacet
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.providers.openlineage.sqlparser import get_openlineage_facets_with_sql

    query = {"sql": SQLJobFacet(query=sql)}
    try:
        parsed = _PLACEHOLDER.sub("NULL", sql)
        found = get_openlineage_facets_with_sql(BaseHook.get_hook(sql_conn_id), parsed, sql_conn_id, None)
    except Exception as error:
        log.warning("OpenLineage cannot be told what the query reads: %s", error)
        found = None
    if found is None:
        return OperatorLineage(job_facets=query)
    return OperatorLineage(inputs=found.inputs, run_facets=found.run_facets, job_facets=query)


def _dataset_of_path(path: str) -> tuple[str, str]:
    """Return namespace and name by OpenLineage's naming rules; an Airflow connection id in the URI is left out."""
    uri = urlsplit(path)
    if uri.scheme in ("", "file"):
        return "file", str(Path(uri.path).absolute())
    return f"{uri.scheme}://{uri.netloc.rpartition('@')[2]}", uri.path.lstrip("/")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
