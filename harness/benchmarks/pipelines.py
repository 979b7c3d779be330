"""
The same rows through pipeline tools: a custom destination of dlt and one of Airbyte's CDK, as their docs write them.

Both are given the rows of the source and make the API's records of them where they post. dlt writes all rows to files
twice before it sends them, and keeps in its folder which batches have been sent. Airbyte's destination is given
messages by a source in the same process; the JSON that a source pipes to a destination is left out.
The state that it gives back after a batch is what Airbyte's platform keeps; here a file does.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

from harness.benchmarks.rows import COLUMNS, Sender, Source, record_of_dict

Post = Callable[[str, list[dict[str, Any]]], str]
Pages = Callable[[Source], AbstractContextManager[Iterator[list[Any]]]]


def dlt_sender(read: Pages, post: Post, chunk: int, folder: Path) -> Sender:
    """
    Return a pipeline with a destination of its own (``@dlt.destination``).

    :param read: opens a source and gives its rows by pages.
    :param post: sends records.
    :param folder: where dlt keeps what it is doing; what a killed run has left is finished by the next one.
    """
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "DLT_DATA_DIR": str(folder / "dlt"),
    }
    import dlt

    nulls = dict.fromkeys(COLUMNS)

    def send(source: Source, url: str) -> dict[str, float]:
        @dlt.resource(name="customers")  # type: ignore[untyped-decorator]
        def customers() -> Iterator[list[dict[str, Any]]]:
            with read(source) as pages:
                for rows in pages:
                    yield [dict(zip(COLUMNS, row, strict=True)) for row in rows]

        @dlt.destination(batch_size=chunk, loader_file_format="typed-jsonl")  # type: ignore[untyped-decorator]
        def voucherify(items: list[dict[str, Any]], table: dict[str, Any]) -> None:
            # A column without a value is left out of an item.
            post(url, [record_of_dict(nulls | row) for row in items])

        pipeline = dlt.pipeline("customers", pipelines_dir=str(folder / "pipelines"), destination=voucherify)
        loaded = pipeline.run(customers)
        jobs = [job for package in loaded.load_packages for job in package.jobs["completed_jobs"]]
        if loaded.has_failed_jobs or not any(job.job_file_info.table_name == "customers" for job in jobs):
            raise RuntimeError(str(loaded))
        normalized = pipeline.last_trace.last_normalize_info
        if normalized is None:  # the rows of a run that was killed, of which dlt has the files alone
            return {}
        rows = normalized.row_counts["customers"]
        return {"read": rows, "arrived": rows, "failed": 0}

    return send


def airbyte_sender(read: Pages, post: Post, chunk: int, folder: Path) -> Sender:
    """
    Return a destination of Airbyte's CDK that is given messages.

    :param read: opens a source and gives its rows by pages.
    :param post: sends records.
    :param folder: for the last state that came back; a run begins after what a killed one had committed.
    """
    from airbyte_cdk.destinations import Destination
    from airbyte_cdk.models import (
        AirbyteConnectionStatus,
        AirbyteMessage,
        AirbyteRecordMessage,
        AirbyteStateBlob,
        AirbyteStateMessage,
        AirbyteStateStats,
        AirbyteStateType,
        AirbyteStream,
        AirbyteStreamState,
        ConfiguredAirbyteCatalog,
        ConfiguredAirbyteStream,
        DestinationSyncMode,
        Status,
        StreamDescriptor,
        SyncMode,
        Type,
    )

    class Voucherify(Destination):  # type: ignore[misc]
        def check(self, logger: Any, config: Mapping[str, Any]) -> AirbyteConnectionStatus:
            return AirbyteConnectionStatus(status=Status.SUCCEEDED)

        def write(
            self,
            config: Mapping[str, Any],
            configured_catalog: ConfiguredAirbyteCatalog,
            input_messages: Iterable[AirbyteMessage],
        ) -> Iterator[AirbyteMessage]:
            records: list[dict[str, Any]] = []
            for message in input_messages:
                if message.type == Type.RECORD:
                    records.append(record_of_dict(message.record.data))
                elif message.type == Type.STATE:
                    post(config["url"], records)
                    records = []
                    yield message
            if records:
                post(config["url"], records)

    def messages(source: Source, committed: int) -> Iterator[AirbyteMessage]:
        with read(source) as pages:
            rows = islice((row for page in pages for row in page), committed, None)
            while some := list(islice(rows, chunk)):
                for row in some:
                    data, now = dict(zip(COLUMNS, row, strict=True)), time.time_ns() // 1_000_000
                    record = AirbyteRecordMessage(stream="customers", data=data, emitted_at=now)
                    yield AirbyteMessage(type=Type.RECORD, record=record)
                committed += len(some)
                stream = AirbyteStreamState(StreamDescriptor("customers"), AirbyteStateBlob(rows=committed))
                stats = AirbyteStateStats(recordCount=len(some))
                state = AirbyteStateMessage(type=AirbyteStateType.STREAM, stream=stream, sourceStats=stats)
                yield AirbyteMessage(type=Type.STATE, state=state)

    stream = AirbyteStream("customers", json_schema={}, supported_sync_modes=[SyncMode.incremental])
    catalog = ConfiguredAirbyteCatalog(
        [ConfiguredAirbyteStream(stream, SyncMode.incremental, DestinationSyncMode.append)]
    )

    def send(source: Source, url: str) -> dict[str, float]:
        kept = folder / "state.json"
        committed = json.loads(kept.read_text()) if kept.exists() else 0
        for message in Voucherify().write({"url": url}, catalog, messages(source, committed)):
            committed = message.state.stream.stream_state.rows
            kept.write_text(json.dumps(committed))
        kept.unlink()
        return {"read": committed, "arrived": committed}

    return send
