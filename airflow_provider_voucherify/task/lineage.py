"""OpenLineage datasets and facets of a task."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_voucherify.compat import BaseHook
from airflow_provider_voucherify.task.conclusion import only_compares

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_voucherify.sync.results.export_summary import ExportSummary
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

log = logging.getLogger(__name__)

RUN_FACET = "voucherify"
"""Name of the run facet with the counts of the summary."""

_PLACEHOLDER = re.compile(r"%(\(\w+\))?s")


def openlineage_facets(task: Any, task_instance: Any) -> OperatorLineage[Any, Any]:
    """
    Return what a task read and wrote, as far as is known: a method of operators and sensor for Airflow's OpenLineage
    provider, if it is installed and set up.

    Inputs are the tables of ``sql=`` (if the database's hook says how they are named) or the files of ``path=``, output
    is ``voucherify://<host>`` / ``<resource>`` with the rows and bytes written. The run facet ``voucherify`` has all
    counts, also for a task that failed because of them. The message of an error is added by Airflow's OpenLineage
    provider. A dry run has no output; of a drift report that resource is an input.

    :param task: has a ``summary``; None if it did not get that far.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    lineage = _lineage_of_source(task)
    return OperatorLineage(
        inputs=[*lineage.inputs, *_compared(task)],
        outputs=_outputs(task),
        run_facets={**lineage.run_facets, **_run_facets(task.summary)},
        job_facets=lineage.job_facets,
    )


def openlineage_facets_of_export(task: Any, task_instance: Any) -> OperatorLineage[Any, Any]:
    """
    Return what an export read and wrote: input is ``voucherify://<host>`` / ``<objects>``, output the file or the
    table.

    :param task: has a ``summary``; None if it did not get that far.
    """
    from airflow.providers.common.compat.openlineage.facet import InputDataset, OutputStatisticsOutputDatasetFacet
    from airflow.providers.openlineage.extractors import OperatorLineage

    namespace, summary = _namespace(task), task.summary
    outputs = _outputs_of_export(task)
    if summary is not None:
        for output in outputs:
            statistics = OutputStatisticsOutputDatasetFacet(rowCount=summary.rows)
            output.outputFacets = {"outputStatistics": statistics}
    name = task.exported_object if task.exported_object.endswith("s") else f"{task.exported_object}s"
    return OperatorLineage(
        inputs=[] if namespace is None else [InputDataset(namespace=namespace, name=name)],
        outputs=outputs,
        run_facets=_run_facets(summary),
    )


def _outputs_of_export(task: Any) -> list[Any]:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset

    if task.path is not None:
        namespace, name = _dataset_of_path(str(task.path))
        return [OutputDataset(namespace=namespace, name=name)]
    found = _lineage_of_query(f"INSERT INTO {task.table} SELECT 1", task.conn_id)
    return list(found.outputs)


def _lineage_of_source(task: Any) -> OperatorLineage[Any, Any]:
    from airflow.providers.common.compat.openlineage.facet import InputDataset
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.facet_v2 import input_statistics_input_dataset

    sql, sql_conn_id = getattr(task, "sql", None), getattr(task, "sql_conn_id", None)
    if sql is not None and sql_conn_id is not None:
        return _lineage_of_query(sql, sql_conn_id)
    path = getattr(task, "path", None)
    if path is None:
        return OperatorLineage()
    datasets = [_dataset_of_path(str(one)) for one in (path if isinstance(path, list | tuple) else [path])]
    facets: dict[str, Any] = {}
    if len(datasets) == 1:
        facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=task.summary.rows_read if task.summary is not None else None,
            fileCount=len(getattr(task, "source_files", ())) or 1,
        )
    return OperatorLineage(
        inputs=[InputDataset(namespace=namespace, name=name, inputFacets=facets) for namespace, name in datasets]
    )


def _outputs(task: Any) -> list[Any]:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset, OutputStatisticsOutputDatasetFacet

    summary: SyncSummary | None = task.summary
    is_dry_run = summary is not None and summary.dry_run
    if is_dry_run or only_compares(task) or (place := _place(task)) is None:
        return []
    namespace, name = place
    if summary is None:
        return [OutputDataset(namespace=namespace, name=name)]
    statistics = OutputStatisticsOutputDatasetFacet(rowCount=summary.succeeded, size=summary.bytes_sent or None)
    return [OutputDataset(namespace=namespace, name=name, outputFacets={"outputStatistics": statistics})]


def _compared(task: Any) -> list[Any]:
    """Return what a drift report reads beside its source."""
    from airflow.providers.common.compat.openlineage.facet import InputDataset

    if not only_compares(task) or (place := _place(task)) is None:
        return []
    namespace, name = place
    return [InputDataset(namespace=namespace, name=name)]


def _place(task: Any) -> tuple[str, str] | None:
    """Return namespace and name of the resource at Voucherify; None if either is not known."""
    summary: SyncSummary | None = task.summary
    name = (summary.resource if summary is not None else None) or getattr(task, "resource", None)
    if name is None or (namespace := _namespace(task)) is None:
        return None
    return namespace, name


def _namespace(task: Any) -> str | None:
    """Return the namespace of what is at Voucherify; None if the connection cannot be read."""
    from airflow_provider_voucherify.assets.voucherify import SCHEME
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook

    try:
        base_url = VoucherifyHook(task.voucherify_conn_id).settings.base_url
    except Exception as error:
        log.warning("OpenLineage does not get which Voucherify it is: %s", error)
        return None
    return f"{SCHEME}://{urlsplit(base_url).netloc}"


def _run_facets(summary: SyncSummary | ExportSummary | None) -> dict[str, Any]:
    from openlineage.client.facet_v2 import RunFacet

    if summary is None:
        return {}
    counts = summary.without_records()
    return {RUN_FACET: RunFacet().with_additional_properties(**{_camel(name): counts[name] for name in counts})}


def _lineage_of_query(sql: str, sql_conn_id: str) -> OperatorLineage[Any, Any]:
    """
    Return the tables that a query reads, if its hook has what Airflow's own SQL operators need for that.

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
        log.warning("OpenLineage does not get what the query reads: %s", error)
        found = None
    if found is None:
        return OperatorLineage(job_facets=query)
    return OperatorLineage(inputs=found.inputs, outputs=found.outputs, run_facets=found.run_facets, job_facets=query)


def _dataset_of_path(path: str) -> tuple[str, str]:
    """Return namespace and name by OpenLineage's naming rules; an Airflow connection id in the URI is left out."""
    uri = urlsplit(path)
    if uri.scheme in ("", "file"):
        return "file", str(Path(uri.path).absolute())
    return f"{uri.scheme}://{uri.netloc.rpartition('@')[2]}", uri.path.lstrip("/")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
