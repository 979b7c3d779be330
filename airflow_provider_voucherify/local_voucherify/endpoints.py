"""
The calls that are served here: which they are, and what each does. What each takes and answers is the contract's.

Three things are not in the vendor's description as facts, but in its text: that vouchers are not created by bulk
updates, which type of action a call schedules, and which columns of a CSV file are required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from airflow_provider_voucherify.local_voucherify.contract import Field, Operation, operation, words

RESOURCES = ("customers", "products", "vouchers")


@dataclass(frozen=True, slots=True)
class BulkEndpoint:
    """
    One bulk endpoint.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param action_type: the ``type`` of the async action that it schedules.
    :param key: field that identifies a record, ``source_id`` or ``code``.
    :param fields: the fields of one record, the key included.
    :param required: the fields that a record must have.
    :param ids_field: for a body of ids that share one ``metadata`` object, the name of the list of ids;
        None if the body is an array of records.
    :param upserts: whether an unknown id is created.
    """

    resource: str
    operation: Operation
    action_type: str
    key: str
    fields: Mapping[str, Field]
    required: tuple[str, ...]
    ids_field: str | None
    upserts: bool

    @property
    def path(self) -> str:
        """The path below the API base URL."""
        return self.operation.path


@dataclass(frozen=True, slots=True)
class CsvImportEndpoint:
    """
    One CSV import.

    :param resource: ``customers``, ``products`` or ``skus``.
    :param action_type: the ``type`` of the async action that it schedules.
    :param required: columns that the vendor's text calls required.
    """

    resource: str
    operation: Operation
    action_type: str
    required: tuple[str, ...]


def _action_type(resource: str, what: str) -> str:
    action_type = f"{resource.upper()}.{what}"
    if action_type not in words("AsyncActionBase", "type"):
        raise ValueError(f"the contract has no action of the type {action_type}")
    return action_type


def _update(resource: str) -> BulkEndpoint:
    call = operation("POST", f"/v1/{resource}/bulk/async")
    return BulkEndpoint(
        resource=resource,
        operation=call,
        action_type=_action_type(resource, "BULK_UPDATE"),
        key=next(name for name in call.required if call.fields[name].type == "string"),
        fields=with_null_in_addresses(call.fields),
        required=call.required,
        ids_field=None,
        upserts=resource != "vouchers",
    )


def _metadata(resource: str) -> BulkEndpoint:
    call = operation("POST", f"/v1/{resource}/metadata/async")
    ids_field = next(name for name, field in call.fields.items() if field.type == "string_list")
    key = ids_field.removesuffix("s")
    return BulkEndpoint(
        resource=resource,
        operation=call,
        action_type=_action_type(resource, "METADATA_UPDATE"),
        key=key,
        fields={key: Field("string"), "metadata": call.fields["metadata"]},
        required=(key, "metadata"),
        ids_field=ids_field,
        upserts=resource != "vouchers",
    )


def with_null_in_addresses(fields: Mapping[str, Field]) -> Mapping[str, Field]:
    """
    Let the members of an address be null, which the description does not.

    The vendor's own test of its JavaScript SDK (``customers.spec.ts``, 2023 to 2025) sends that to the live API.
    """
    if "address" not in fields:
        return fields
    members = {name: replace(member, nullable=True) for name, member in fields["address"].fields.items()}
    return {**fields, "address": replace(fields["address"], fields=members)}


UPDATE_ENDPOINTS = {resource: _update(resource) for resource in RESOURCES}
"""``POST /v1/{resource}/bulk/async``: a JSON array of records."""

METADATA_ENDPOINTS = {resource: _metadata(resource) for resource in RESOURCES}
"""``POST /v1/{resource}/metadata/async``: a list of ids and one ``metadata`` object for all of them."""

CSV_IMPORT_ENDPOINTS = {
    resource: CsvImportEndpoint(
        resource, operation("POST", f"/v1/{resource}/importCSV"), _action_type(resource, "IMPORT_CSV"), required
    )
    for resource, required in (("customers", ()), ("products", ("name",)), ("skus", ("source_id", "product_id")))
}
"""``POST /v1/{resource}/importCSV``: a CSV file in the field ``file`` of a form."""

LIST_ACTIONS = operation("GET", "/v1/async-actions")
GET_ACTION = operation("GET", "/v1/async-actions/{asyncActionId}")
LIST_SCHEMAS = operation("GET", "/v1/metadata-schemas")
GET_SCHEMA = operation("GET", "/v1/metadata-schemas/{resource}")
ISSUE_TOKEN = operation("POST", "/v1/oauth/token")
GRANT_TYPES = words("OAuthTokenGenerateRequestBody", "grant_type")
INTROSPECT_TOKEN = operation("POST", "/v1/oauth/introspect")
REVOKE_TOKEN = operation("POST", "/v1/oauth/token/revoke")

_PARAMETERS = {"customers": "{customerId}", "products": "{productId}", "vouchers": "{code}"}

LISTS = {resource: operation("GET", f"/v1/{resource}") for resource in RESOURCES}
"""``GET /v1/{resource}``."""

CREATIONS = {
    "customers": operation("POST", "/v1/customers"),
    "products": operation("POST", "/v1/products"),
    "vouchers": operation("POST", "/v1/vouchers/{code}"),
}
"""One new record; a voucher's code is in the path."""

CHANGES = {resource: operation("PUT", f"/v1/{resource}/{one}") for resource, one in _PARAMETERS.items()}
"""``PUT /v1/{resource}/{id}``."""

REMOVALS = {resource: operation("DELETE", f"/v1/{resource}/{one}") for resource, one in _PARAMETERS.items()}
"""``DELETE /v1/{resource}/{id}``; nothing here has a bin, so ``force`` makes no difference."""

LIST_ACTIVITY = operation("GET", "/v1/customers/{customerId}/activity")
LIST_ACTIVITIES = operation("GET", "/v1/customers/{customerId}/activities")
LIST_REDEEMABLES = operation("GET", "/v1/customers/{customerId}/redeemables")

CREATE_EXPORT = operation("POST", "/v1/exports")
LIST_EXPORTS = operation("GET", "/v1/exports")
GET_EXPORT = operation("GET", "/v1/exports/{exportId}")
REMOVE_EXPORT = operation("DELETE", "/v1/exports/{exportId}")

MAX_BODY_BYTES = max(
    e.operation.max_body_bytes or 0 for e in (*UPDATE_ENDPOINTS.values(), *METADATA_ENDPOINTS.values())
)
"""Size of the largest body, the same for every bulk endpoint."""
