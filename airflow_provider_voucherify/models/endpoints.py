"""
The bulk endpoints of Voucherify, in the one table that says what each accepts.

Source: the vendor's API description (documentation/openapi/customers.json, products.json and vouchers.json,
August 2026). The rest of this package takes paths, key fields, body shapes and scopes from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

Resource = Literal["customers", "products", "vouchers"]
RESOURCES: tuple[str, ...] = get_args(Resource)

FieldType = Literal["string", "integer", "date", "string_list", "object"]

MAX_BODY_BYTES = 10_485_760
"""Largest request body of every bulk endpoint, in bytes (from the vendor's own 413 message)."""


class Field(NamedTuple):
    """
    A field of a bulk record.

    :param type: the JSON type that the API documents; ``date`` is a ``YYYY-MM-DD`` string.
    :param nullable: whether the API accepts ``null``.
    :param fields: the fields of a documented nested object; empty for a free-form one such as ``metadata``.
    """

    type: FieldType
    nullable: bool = False
    fields: Mapping[str, Field] = {}


class BulkEndpoint(NamedTuple):
    """
    One bulk endpoint: its path, what it accepts and what it does with unknown ids.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param path: path below the API base URL; the method is always ``POST``.
    :param action_type: the ``type`` of the async action that it queues.
    :param key: field that identifies a record, ``source_id`` or ``code``.
    :param fields: the fields of one record of a ``records`` body, the key included.
    :param required: the fields that a record must have.
    :param ids_field: for a body of ids that share one ``metadata`` object, the name of the list of ids;
        None if the body is a JSON array of records.
    :param upserts: whether an unknown id is created (customers and products) or left alone (vouchers).
    :param scope: the OAuth scope that permits the call (or ``api``, which permits all).
    """

    resource: Resource
    path: str
    action_type: str
    key: str
    fields: dict[str, Field]
    required: tuple[str, ...]
    ids_field: str | None
    upserts: bool
    scope: str


_STRING = Field("string")
_METADATA = Field("object")
_ADDRESS = Field(
    "object",
    nullable=True,
    fields=dict.fromkeys(
        ("city", "state", "line_1", "line_2", "country", "postal_code"), Field("string", nullable=True)
    ),
)
"""
The description does not allow null in the members of an address; the vendor's own test of its JavaScript SDK
(``customers.spec.ts``, 2023 to 2025) sends it to the live API by the bulk update and reads null back.
"""
_CUSTOMER_FIELDS = {
    "source_id": _STRING,
    "name": _STRING,
    "description": _STRING,
    "email": _STRING,
    "phone": _STRING,
    "birthdate": Field("date"),
    "birthday": Field("date"),
    "address": _ADDRESS,
    "metadata": _METADATA,
}
_PRODUCT_FIELDS = {
    "source_id": _STRING,
    "name": _STRING,
    "price": Field("integer"),
    "attributes": Field("string_list"),
    "image_url": _STRING,
    "metadata": _METADATA,
}
_VOUCHER_FIELDS = {"code": _STRING, "metadata": _METADATA}

# fmt: off
UPDATE_ENDPOINTS: dict[str, BulkEndpoint] = {
    e.resource: e for e in (
        BulkEndpoint("customers", "/v1/customers/bulk/async", "CUSTOMERS.BULK_UPDATE", "source_id",
                     _CUSTOMER_FIELDS, ("source_id",), None, True, "customers"),
        BulkEndpoint("products", "/v1/products/bulk/async", "PRODUCTS.BULK_UPDATE", "source_id",
                     _PRODUCT_FIELDS, ("source_id",), None, True, "products"),
        BulkEndpoint("vouchers", "/v1/vouchers/bulk/async", "VOUCHERS.BULK_UPDATE", "code",
                     _VOUCHER_FIELDS, ("code", "metadata"), None, False, "vouchers"),
    )
}
"""``POST /v1/{resource}/bulk/async``: a JSON array of records."""

METADATA_ENDPOINTS: dict[str, BulkEndpoint] = {
    e.resource: e for e in (
        BulkEndpoint("customers", "/v1/customers/metadata/async", "CUSTOMERS.METADATA_UPDATE", "source_id",
                     {"source_id": _STRING, "metadata": _METADATA}, ("source_id", "metadata"),
                     "source_ids", True, "customers"),
        BulkEndpoint("products", "/v1/products/metadata/async", "PRODUCTS.METADATA_UPDATE", "source_id",
                     {"source_id": _STRING, "metadata": _METADATA}, ("source_id", "metadata"),
                     "source_ids", True, "products"),
        BulkEndpoint("vouchers", "/v1/vouchers/metadata/async", "VOUCHERS.METADATA_UPDATE", "code",
                     _VOUCHER_FIELDS, ("code", "metadata"), "codes", False, "vouchers"),
    )
}
"""``POST /v1/{resource}/metadata/async``: a list of ids and one ``metadata`` object for all of them."""
# fmt: on


class CsvImportEndpoint(NamedTuple):
    """
    One CSV import. Column names are compared without regard to case; other columns become metadata.

    :param resource: ``customers``, ``products`` or ``skus``.
    :param path: path below the API base URL; the method is always ``POST``.
    :param action_type: the ``type`` of the async action that it queues.
    :param required: columns that the vendor calls required.
    :param fields: the columns that do not become metadata.
    :param scope: the OAuth scope that permits the call (or ``api``, which permits all).
    """

    resource: str
    path: str
    action_type: str
    required: tuple[str, ...]
    fields: tuple[str, ...]
    scope: str


_CSV_IMPORTS: dict[str, tuple[tuple[str, ...], str]] = {
    "customers": (
        (),
        "id name email phone birthdate source_id description address_line_1 address_line_2 address_postal_code "
        "address_city address_state address_country",
    ),
    "products": (("name",), "name source_id price attributes image_url"),
    "skus": (("source_id", "product_id"), "source_id product_id sku price image_url attributes"),
}

CSV_IMPORT_ENDPOINTS: dict[str, CsvImportEndpoint] = {
    resource: CsvImportEndpoint(
        resource,
        f"/v1/{resource}/importCSV",
        f"{resource.upper()}.IMPORT_CSV",
        required,
        tuple(fields.split()),
        resource,
    )
    for resource, (required, fields) in _CSV_IMPORTS.items()
}
"""``POST /v1/{resource}/importCSV``: a CSV file in the field ``file`` of a form."""

ASYNC_ACTIONS_PATH = "/v1/async-actions"
ASYNC_ACTIONS_SCOPE = "async-actions"
EXPORTS_PATH = "/v1/exports"
OAUTH_TOKEN_PATH = "/v1/oauth/token"
METADATA_SCHEMAS_PATH = "/v1/metadata-schemas"
METADATA_SCHEMAS_SCOPE = "metadata-schemas"
METADATA_SCHEMA_NAMES: dict[str, str] = {"customers": "customer", "products": "product", "vouchers": "voucher"}
"""What a resource's metadata schema is called in paths and answers (documentation/openapi/metadata-schemas.json)."""
OAUTH_INTROSPECT_PATH = "/v1/oauth/introspect"
OAUTH_REVOKE_PATH = "/v1/oauth/token/revoke"

REGIONS: dict[str, str] = {
    "eu": "https://api.voucherify.io",
    "us1": "https://us1.api.voucherify.io",
    "as1": "https://as1.api.voucherify.io",
}
"""API base URL per region name (vendor's API overview); a dedicated cluster has a URL of its own."""


def download_host(api_host: str) -> str | None:
    """
    Return the host that serves files for an API host; None if the vendor names none.

    :param api_host: e.g. ``us1.api.voucherify.io`` (gives ``us1.download.voucherify.io``).
    """
    if f".{api_host}".endswith(".api.voucherify.io"):
        return api_host.removesuffix("api.voucherify.io") + "download.voucherify.io"
    return None


def dashboard_url(base_url: str, list_path: str = ASYNC_ACTIONS_PATH) -> str:
    """
    Return the dashboard of an API base URL's region; its audit log lists async actions as background tasks.

    A dedicated cluster's dashboard address is not documented: for it a list of the API's is returned.

    :param list_path: of that list.
    """
    for name, url in REGIONS.items():
        if url == base_url:
            return f"https://{'' if name == 'eu' else name + '.'}app.voucherify.io"
    return base_url + list_path
