"""Every reading of every question of the probe, with the options of the local Voucherify that make it so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

RESOURCES = ("customers", "products", "vouchers")
STATUSES = ("DONE/SUCCESS", "DONE/FAILED", "DONE/UNKNOWN", "DONE/none", "FAILED/FAILED")
BOTH = {"api_calls": (100, 3600.0), "bulk_api_calls": (50, 3600.0), "bulk_calls_are_api_calls": True}
SLOW = {"action_seconds": 0.2}

NULL_MEMBER = "What does null do as a member of metadata?"
NULL_METADATA = "What does null do as the whole metadata?"
WRONG_RECORD = "Does one wrong record refuse its request?"
PARTIAL_STATUS = "Which status and operation status has a partly failed update?"
PARTIAL_COUNTS = "What does a partly failed update count?"
TOTAL_STATUS = "Which status and operation status has an update whose every record failed?"
METADATA_RESULT = "Do results of `metadata/async` have counts?"
UNKNOWN_CODE = "How does an unknown voucher code count?"
SAME_ID = "What do two records with one id in a request do?"
NO_RECORDS = "What does `customers/bulk/async` do with an empty list?"
NO_IDS = "What does `customers/metadata/async` do with an empty list?"
CASE = "Are voucher codes that differ in case one voucher?"
REPORT_HOST = "Where is the report?"
CREDENTIALS = "Does the report need credentials?"
FORMAT = "What is the report's format?"
COLUMNS = "What are the report's columns called?"
EXPIRY = "Until when is the report there?"
QUEUE = "Which actions wait for earlier ones?"
CUSTOMER_PAGES = "Is 99 the last page of customers?"
PRODUCT_PAGES = "Is 100 the last page of products?"
COMPRESSED = "Are compressed bodies accepted?"
BULK_BUDGET = "Which limit do bulk calls draw from?"
CSV_BUDGET = "Is a CSV import a bulk call?"
RETRY = "What does `X-Rate-Limit-Retry` tell while calls are left?"
REGION = "What is the answer to the wrong region?"
SCOPE = "What is the answer if a token lacks a scope?"


@dataclass(frozen=True)
class Case:
    """
    A reading of a question.

    :param options: of the local Voucherify.
    :param extra: of the connection.
    :param elsewhere: options of the local Voucherify that is the other region, None for none.
    """

    question: str
    reading: str
    options: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    elsewhere: dict[str, Any] | None = None


def merge(resource: str, form: str) -> str:
    return f"Does `{resource}/{form}/async` merge metadata?"


def cases() -> Iterator[Case]:
    for form in ("bulk", "metadata"):
        for resource in RESOURCES:
            yield Case(merge(resource, form), "merged")
            replaced = {"metadata_replaced_by": frozenset({f"{resource}/{form}"})}
            yield Case(merge(resource, form), "replaced", replaced)
            yield Case(merge(resource, form), "replaced", {"metadata_mode": "replace"})
    for reading in ("stored", "removed", "kept", "failed"):
        yield Case(NULL_MEMBER, reading, {"null_member": reading})
    yield Case(NULL_MEMBER, "refused", {"null_member": "failed", "wrong_record": "refused"})
    for reading in ("cleared", "stored", "kept", "failed"):
        yield Case(NULL_METADATA, reading, {"null_metadata": reading})
    yield Case(NULL_METADATA, "refused", {"null_metadata": "failed", "wrong_record": "refused"})
    for reading in ("failed", "refused"):
        yield Case(WRONG_RECORD, reading, {"wrong_record": reading})
    for reading in STATUSES:
        yield Case(PARTIAL_STATUS, reading, {"partial_status": reading})
        yield Case(PARTIAL_STATUS, reading, {"partial_status": reading, "wrong_record": "refused"})
        yield Case(TOTAL_STATUS, reading, {"total_status": reading})
    for reading in ("split", "all_done"):
        yield Case(PARTIAL_COUNTS, reading, {"partial_counts": reading})
    yield Case(PARTIAL_COUNTS, "none", {"result_shape": "errors_only"})
    yield Case(METADATA_RESULT, "counts")
    yield Case(METADATA_RESULT, "errors_only", {"result_shape": "errors_only"})
    for reading in ("failed", "done", "refused"):
        yield Case(UNKNOWN_CODE, reading, {"missing_vouchers": reading})
    for reading in ("last", "first", "failed", "refused"):
        yield Case(SAME_ID, reading, {"same_id_twice": reading})
    for reading in ("accepted", "refused"):
        yield Case(NO_RECORDS, reading, {"empty_records": reading})
        yield Case(NO_IDS, reading, {"empty_ids": reading})
        yield Case(COMPRESSED, reading, {"compressed_bodies": reading})
    yield Case(COMPRESSED, "misread", {"compressed_bodies": "misread"})
    yield Case(CASE, "different", {"case_sensitive_codes": True})
    yield Case(CASE, "different", {"missing_vouchers": "done"})
    yield Case(CASE, "same", {"case_sensitive_codes": False})
    yield from _reports()
    yield from _the_project()


def _reports() -> Iterator[Case]:
    yield Case(REPORT_HOST, "api_host", {"report_host": "same"})
    yield Case(REPORT_HOST, "other_host", {"report_host": "separate"})
    yield Case(REPORT_HOST, "no_report", {"result_shape": "no_report"})
    yield Case(CREDENTIALS, "not_needed", {"reports_need_auth": False})
    yield Case(CREDENTIALS, "needed", {"reports_need_auth": True})
    for reading in ("csv", "semicolons", "tabs", "json", "json_lines"):
        yield Case(FORMAT, reading, {"report_format": reading})
        for columns in ("names", "titles"):
            yield Case(COLUMNS, columns, {"report_columns": columns, "report_format": reading})
    yield Case(EXPIRY, "told", {"report_expiry_told": True})
    yield Case(EXPIRY, "not_told", {"report_expiry_told": False})


def _the_project() -> Iterator[Case]:
    for reading in ("project", "type", "none"):
        yield Case(QUEUE, reading, {"queue_scope": reading, **SLOW})
    yield Case(CUSTOMER_PAGES, "as_documented", {"last_page_of_customers": None})
    yield Case(CUSTOMER_PAGES, "higher", {"last_page_of_customers": 100})
    yield Case(CUSTOMER_PAGES, "lower", {"last_page_of_customers": 98})
    yield Case(PRODUCT_PAGES, "as_documented", {"last_page_of_products": None})
    yield Case(PRODUCT_PAGES, "higher", {"last_page_of_products": 1_000})
    yield Case(PRODUCT_PAGES, "lower", {"last_page_of_products": 99})
    yield Case(BULK_BUDGET, "both", BOTH)
    yield Case(BULK_BUDGET, "both", {**BOTH, "bulk_api_calls": (100, 3600.0)})
    yield Case(BULK_BUDGET, "bulk_alone", {**BOTH, "bulk_calls_are_api_calls": False})
    same = {**BOTH, "bulk_api_calls": (100, 3600.0), "bulk_calls_are_api_calls": False}
    yield Case(BULK_BUDGET, "bulk_alone", same)
    yield Case(BULK_BUDGET, "ordinary", {**BOTH, "bulk_api_calls": None})
    nowhere = {**BOTH, "bulk_api_calls": None, "bulk_calls_are_api_calls": False}
    yield Case(BULK_BUDGET, "bulk_without_headers", nowhere)
    yield Case(BULK_BUDGET, "no_headers", {"api_calls": None, "bulk_api_calls": None})
    yield Case(CSV_BUDGET, "bulk", {**BOTH, "csv_imports_are_bulk": True})
    yield Case(CSV_BUDGET, "ordinary", {**BOTH, "csv_imports_are_bulk": False})
    for reading in ("next_call", "period_end", "absent"):
        yield Case(RETRY, reading, {"api_calls": (100, 3600.0), "retry_header": reading})
    for reading in ("403_with_url", "403", "401"):
        elsewhere = {"right_url": "https://api.voucherify.io", "wrong_region_answer": reading}
        yield Case(REGION, reading, elsewhere=elsewhere)
    yield Case(REGION, "404", elsewhere={"right_url": "https://api.voucherify.io", "wrong_region_answer": "404"})
    yield Case(REGION, "served", elsewhere={})
    oauth = {"auth_method": "oauth"}
    for status in (403, 401):
        yield Case(SCOPE, str(status), {"missing_scope_status": status}, oauth)
    yield Case(SCOPE, "served", {"missing_scope_status": 200}, oauth)
