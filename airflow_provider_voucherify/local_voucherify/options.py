"""What can be set on the local Voucherify, once for the Python constructor and the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from airflow_provider_voucherify.local_voucherify.endpoints import MAX_BODY_BYTES

ResultShape = Literal["full", "errors_only", "legacy", "no_report", "several_reports"]
MetadataMode = Literal["merge", "replace"]
MissingVouchers = Literal["done", "failed", "refused"]
RetryHeader = Literal["next_call", "period_end", "absent"]
NullMember = Literal["stored", "removed", "kept", "failed"]
NullMetadata = Literal["failed", "cleared", "kept", "stored"]
WrongRecord = Literal["failed", "refused"]
PartialStatus = Literal["DONE/SUCCESS", "DONE/FAILED", "DONE/UNKNOWN", "DONE/none", "FAILED/FAILED"]
PartialCounts = Literal["split", "all_done"]
TotalStatus = Literal["DONE/FAILED", "DONE/SUCCESS", "DONE/UNKNOWN", "DONE/none", "FAILED/FAILED"]
SameIdTwice = Literal["last", "first", "failed", "refused"]
Taken = Literal["accepted", "refused"]
QueueScope = Literal["project", "type", "none"]
ReportFormat = Literal["csv", "semicolons", "tabs", "json", "json_lines"]
ReportColumns = Literal["names", "titles"]
WrongRegion = Literal["403_with_url", "403", "401", "404"]
Compressed = Literal["accepted", "refused", "misread"]
ExportHeader = Literal["names", "titles"]
ExportMetadataColumns = Literal["records", "schema", "one"]
ExportMetadataNames = Literal["prefixed", "bare"]
ExportLists = Literal["joined", "json"]
ExportBounds = Literal["exclusive", "inclusive"]
ExportUpdatedAt = Literal["blank", "created_at"]

Limit = tuple[int, float]
"""A rate limit: the number of calls, and the period in seconds."""

SAME_HOST = "same"
SEPARATE_HOST = "separate"

_NINETY_DAYS = 90 * 86_400.0
_ONE_HOUR = 3_600.0


def parse_limit(text: str) -> Limit:
    """Return the limit written as ``calls/seconds``, e.g. ``100/60``."""
    calls, _, seconds = text.partition("/")
    return int(calls), float(seconds)


def parse_words(text: str) -> frozenset[str]:
    """Return the words of a text that commas separate."""
    return frozenset(word.strip() for word in text.split(",") if word.strip())


def parse_schemas_file(path: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the metadata schemas in a JSON file: an object from resource to schema."""
    schemas: Mapping[str, Mapping[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))
    return schemas


def _flag(about: str, parse: Callable[[str], Any] = str, choices: tuple[Any, ...] | None = None) -> Mapping[str, Any]:
    """
    Return what the command line needs to know of an option.

    :param about: the meaning and unit, shown by ``--help``.
    :param parse: how the flag's text becomes the value.
    :param choices: the only values allowed, None for any.
    """
    return {"about": about, "parse": parse, "choices": choices}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    The settings of a local Voucherify. The meaning of each is the text beside it, which ``--help`` prints too.

    Not on the command line: ``clock``, a function that returns the time in seconds since the epoch; tests give one
    to move through queues, rate-limit periods and lifetimes without waiting.
    """

    app_id: str = field(default="local-app-id", metadata=_flag("application id that calls must name"))
    secret_key: str = field(default="local-secret-key", repr=False, metadata=_flag("secret key that calls must give"))
    action_seconds: float = field(
        default=0.0, metadata=_flag("seconds that an async action takes once it starts", float)
    )
    seconds_per_record: float = field(default=0.0, metadata=_flag("seconds that each record adds to its action", float))
    api_calls: Limit | None = field(
        default=None, metadata=_flag("limit on all API calls, as calls/seconds", parse_limit)
    )
    bulk_api_calls: Limit | None = field(
        default=None, metadata=_flag("limit on bulk calls, as calls/seconds", parse_limit)
    )
    api_calls_cycle: Limit | None = field(
        default=None,
        metadata=_flag("limit of the billing cycle on calls other than bulk, as calls/seconds", parse_limit),
    )
    bulk_calls_are_api_calls: bool = field(
        default=True, metadata=_flag("whether a bulk call counts towards the limit on all API calls too")
    )
    retry_header: RetryHeader = field(
        default="next_call",
        metadata=_flag("what X-Rate-Limit-Retry tells while calls are left", choices=get_args(RetryHeader)),
    )
    max_body_bytes: int = field(default=MAX_BODY_BYTES, metadata=_flag("largest request body in bytes", int))
    report_host: str = field(
        default=SAME_HOST,
        metadata=_flag(
            f"where URLs of reports and exports point: '{SAME_HOST}', '{SEPARATE_HOST}' (a second port), or a base URL"
        ),
    )
    reports_need_auth: bool = field(
        default=False, metadata=_flag("whether a report also needs the caller's credentials")
    )
    report_seconds: float = field(
        default=_NINETY_DAYS, metadata=_flag("seconds that a report can be downloaded", float)
    )
    expired_report_status: int = field(
        default=404, metadata=_flag("HTTP status of an expired report", int, choices=(404, 410))
    )
    result_shape: ResultShape = field(
        default="full", metadata=_flag("shape of an action's result", choices=get_args(ResultShape))
    )
    export_seconds: float = field(default=0.0, metadata=_flag("seconds that an export takes", float))
    export_file_seconds: float = field(
        default=_ONE_HOUR, metadata=_flag("seconds that the URL of an export's file can be used", float)
    )
    exports_need_auth: bool = field(
        default=True, metadata=_flag("whether an export's file also needs the caller's credentials")
    )
    export_header: ExportHeader = field(
        default="names",
        metadata=_flag(
            "the header of an export: names of fields (voucher_type) or titles (Voucher Type); a cell is empty for "
            "null or absent, true or false, a number as in JSON, a time in UTC as the API writes it",
            choices=get_args(ExportHeader),
        ),
    )
    export_metadata_columns: ExportMetadataColumns = field(
        default="records",
        metadata=_flag(
            "the columns of the field metadata: one for each property that any object has, one for each of the "
            "metadata schema, or one with JSON",
            choices=get_args(ExportMetadataColumns),
        ),
    )
    export_metadata_names: ExportMetadataNames = field(
        default="prefixed",
        metadata=_flag(
            "the header of a metadata property: metadata.color or color", choices=get_args(ExportMetadataNames)
        ),
    )
    export_lists: ExportLists = field(
        default="joined",
        metadata=_flag(
            "how an export writes lists: items joined by commas, or JSON; nested objects are always JSON",
            choices=get_args(ExportLists),
        ),
    )
    export_bounds: ExportBounds = field(
        default="exclusive",
        metadata=_flag(
            "whether $after and $before of an export's filter include the moment itself", choices=get_args(ExportBounds)
        ),
    )
    export_updated_at: ExportUpdatedAt = field(
        default="blank",
        metadata=_flag(
            "what an export has, and its filter and order see, as updated_at of a customer that was never updated",
            choices=get_args(ExportUpdatedAt),
        ),
    )
    metadata_schemas: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict,
        metadata=_flag("metadata schemas by resource; on the command line a JSON file", parse_schemas_file),
    )
    reject_unknown_fields: bool = field(
        default=False, metadata=_flag("whether a field that the API does not document fails its record")
    )
    metadata_mode: MetadataMode = field(
        default="merge",
        metadata=_flag("what an update does to metadata keys that it does not name", choices=get_args(MetadataMode)),
    )
    missing_vouchers: MissingVouchers = field(
        default="failed", metadata=_flag("how an unknown voucher code counts", choices=get_args(MissingVouchers))
    )
    right_url: str | None = field(
        default=None,
        metadata=_flag(
            "the project is at this URL, in another region: every call is answered with the 403 that says so"
        ),
    )
    token_lifetime: float = field(default=900.0, metadata=_flag("seconds that an OAuth token lives", float))
    store_records: bool = field(
        default=True, metadata=_flag("whether to keep the fields of records; without, only their ids")
    )
    keep_bodies: bool = field(default=False, metadata=_flag("whether to keep the bodies of received requests"))
    # Readings of what the vendor does not say, beside those above; ``airflow voucherify probe`` tells them apart.
    metadata_replaced_by: frozenset[str] = field(
        default=frozenset(),
        metadata=_flag(
            "calls that replace metadata whatever the metadata mode, such as customers/bulk,vouchers/metadata",
            parse_words,
        ),
    )
    null_member: NullMember = field(
        default="stored",
        metadata=_flag("what null does to a metadata member in a bulk update", choices=get_args(NullMember)),
    )
    null_metadata: NullMetadata = field(
        default="failed",
        metadata=_flag("what null as the whole metadata does in a bulk update", choices=get_args(NullMetadata)),
    )
    wrong_record: WrongRecord = field(
        default="failed",
        metadata=_flag(
            "whether a wrong record fails alone or its whole request is refused", choices=get_args(WrongRecord)
        ),
    )
    partial_status: PartialStatus = field(
        default="DONE/SUCCESS",
        metadata=_flag("status and operation status of a partly failed update", choices=get_args(PartialStatus)),
    )
    partial_counts: PartialCounts = field(
        default="split",
        metadata=_flag(
            "whether a partly failed update counts its failed records as failed or as done",
            choices=get_args(PartialCounts),
        ),
    )
    total_status: TotalStatus = field(
        default="DONE/FAILED",
        metadata=_flag("status and operation status if every record failed", choices=get_args(TotalStatus)),
    )
    same_id_twice: SameIdTwice = field(
        default="last",
        metadata=_flag(
            "which of two records with one id in one request wins, or whether both fail or the request is refused",
            choices=get_args(SameIdTwice),
        ),
    )
    empty_records: Taken = field(
        default="accepted", metadata=_flag("what is done with an empty list of records", choices=get_args(Taken))
    )
    empty_ids: Taken = field(
        default="refused", metadata=_flag("what is done with an empty list of ids", choices=get_args(Taken))
    )
    case_sensitive_codes: bool = field(
        default=True, metadata=_flag("whether voucher codes that differ in case alone are different vouchers")
    )
    queue_scope: QueueScope = field(
        default="project",
        metadata=_flag(
            "which actions wait for earlier ones: all of the project, those of a type, none",
            choices=get_args(QueueScope),
        ),
    )
    last_page_of_customers: int | None = field(
        default=None, metadata=_flag("highest page of the list of customers, by default as documented", int)
    )
    last_page_of_products: int | None = field(
        default=None, metadata=_flag("highest page of the list of products, by default as documented", int)
    )
    report_format: ReportFormat = field(
        default="csv", metadata=_flag("format of report files", choices=get_args(ReportFormat))
    )
    report_columns: ReportColumns = field(
        default="names",
        metadata=_flag("columns of reports: names (source_id) or titles (Source ID)", choices=get_args(ReportColumns)),
    )
    report_expiry_told: bool = field(default=True, metadata=_flag("whether a result says until when its reports last"))
    csv_imports_are_bulk: bool = field(default=False, metadata=_flag("whether a CSV import counts as a bulk call"))
    compressed_bodies: Compressed = field(
        default="refused",
        metadata=_flag("what is done with bodies compressed by gzip", choices=get_args(Compressed)),
    )
    wrong_region_answer: WrongRegion = field(
        default="403_with_url",
        metadata=_flag("answer to calls in another region than the project's", choices=get_args(WrongRegion)),
    )
    missing_scope_status: int = field(
        default=403,
        metadata=_flag("HTTP status if a token lacks a scope; 200 serves the call", int, choices=(403, 401, 200)),
    )
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        """Refuse a value outside an option's choices, so that a typing error does not pass for a default."""
        for option in fields(self):
            choices = option.metadata.get("choices")
            if choices and getattr(self, option.name) not in choices:
                raise ValueError(f"{option.name} must be one of {choices}, not {getattr(self, option.name)!r}")
