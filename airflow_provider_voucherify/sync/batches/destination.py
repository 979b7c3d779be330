"""Where batches go: the endpoint, the fields of its records, and the form of a body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_provider_voucherify.models.endpoints import (
    MAX_BODY_BYTES,
    METADATA_ENDPOINTS,
    RESOURCES,
    UPDATE_ENDPOINTS,
    BulkEndpoint,
)
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.mapping import NullPolicy, sends_null
from airflow_provider_voucherify.sync.rows.metadata_rules import MetadataRules, RefusedMetadataError
from airflow_provider_voucherify.sync.rows.values import RefusedValueError, to_object, without_nulls


@dataclass(frozen=True, slots=True)
class BodyForm:
    """
    What surrounds the comma-separated items of a body.

    :param prefix: bytes before the first item.
    :param suffix: bytes after the last item.
    """

    prefix: bytes = b"["
    suffix: bytes = b"]"

    @property
    def overhead(self) -> int:
        """Bytes of a body without its items."""
        return len(self.prefix) + len(self.suffix)


@dataclass(frozen=True, slots=True)
class Destination:
    """
    Which endpoint batches go to, and the form of its bodies.

    :param endpoint: where to send.
    :param fields_of: the endpoint whose fields the rows' columns may become.
    :param form: what each body has around its items.
    """

    endpoint: BulkEndpoint
    fields_of: BulkEndpoint
    form: BodyForm

    @property
    def sends_ids(self) -> bool:
        """Whether the items are bare ids, which share one ``metadata`` object, and not records."""
        return self.endpoint.ids_field is not None

    @property
    def around_item(self) -> tuple[str, str]:
        """What stands before and after an item in the JSON of what its record gets; nothing, if it is that itself."""
        if not self.sends_ids:
            return "", ""
        return f'{{"{self.endpoint.key}":', self.form.suffix.removeprefix(b"]").decode()

    @property
    def shared_metadata(self) -> list[str]:
        """The members of the ``metadata`` object that bare ids share."""
        return list(msgspec.json.decode(self.form.prefix + self.form.suffix)["metadata"]) if self.sends_ids else []


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """
    How large a batch may be.

    :param max_bytes: bytes of a body; the API takes 10,485,760.
    :param max_records: records in a body; None for as many as fit, since the API no longer has such a limit.
    """

    max_bytes: int = MAX_BODY_BYTES
    max_records: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_bytes <= MAX_BODY_BYTES:
            raise VoucherifyConfigurationError(
                f"max_bytes must be from 1 to {MAX_BODY_BYTES}, which is the most that Voucherify accepts"
            )
        if self.max_records is not None and self.max_records < 1:
            raise VoucherifyConfigurationError("max_records must be at least 1")

    def requests(self, records: int, size: int, overhead: int) -> int:
        """
        Return about how many requests some records take, ignoring the space lost at the end of each body.

        :param size: bytes of the records, separators included.
        :param overhead: bytes of a body without its records.
        """
        by_size = -(-size // max(1, self.max_bytes - overhead))
        return max(by_size, -(-records // self.max_records) if self.max_records else 0)


def update_destination(resource: str) -> Destination:
    """Whole records: ``POST /v1/{resource}/bulk/async``."""
    endpoint = _endpoint(UPDATE_ENDPOINTS, resource)
    return Destination(endpoint, endpoint, BodyForm())


def metadata_destination(
    resource: str,
    metadata: Mapping[str, Any] | None,
    schema: MetadataRules | None = None,
    null_policy: NullPolicy | Mapping[str, NullPolicy] = "omit",
) -> Destination:
    """
    Metadata only.

    One ``metadata`` for all ids goes to ``metadata/async``, which takes a list of ids. Metadata per row goes to
    ``bulk/async`` as records of nothing but the id and its metadata: one request holds tens of thousands of different
    ones, whereas ``metadata/async`` would need a request for each.

    :param schema: the project's metadata schema, which the one ``metadata`` has to fit.
    :param null_policy: what to do with its missing values; here a mapping is from member to policy.
    :raises VoucherifyConfigurationError: ``metadata`` cannot be sent, or the schema does not allow it.
    """
    if metadata is None:
        return Destination(_endpoint(UPDATE_ENDPOINTS, resource), _endpoint(METADATA_ENDPOINTS, resource), BodyForm())
    try:
        converted = {
            name: rest
            for name, value in to_object(metadata).items()
            if (rest := value if (sends := sends_null(null_policy, name)) else without_nulls(value)) is not None
            or sends
        }
        if schema is not None:
            schema.check(converted)
        encoded = msgspec.json.Encoder(decimal_format="number").encode(converted)
    except RefusedMetadataError as why:
        raise VoucherifyConfigurationError(f"the project's schema does not allow this metadata: {why}") from None
    except (RefusedValueError, TypeError, ValueError) as why:
        raise VoucherifyConfigurationError(f"metadata {why}") from None
    if not converted:
        raise VoucherifyConfigurationError(
            "metadata is empty, there is nothing to update"
            + ("; null_policy='send' sends missing values as null" if metadata else "")
        )
    return ids_destination(resource, encoded)


def ids_destination(resource: str, metadata: bytes) -> Destination:
    """
    One metadata object for all ids: ``POST /v1/{resource}/metadata/async``.

    :param metadata: the object's JSON.
    """
    endpoint = _endpoint(METADATA_ENDPOINTS, resource)
    only_key = endpoint._replace(fields={endpoint.key: endpoint.fields[endpoint.key]}, required=(endpoint.key,))
    form = BodyForm(b'{"%s":[' % str(endpoint.ids_field).encode(), b'],"metadata":' + metadata + b"}")
    return Destination(endpoint, only_key, form)


def _endpoint(table: Mapping[str, BulkEndpoint], resource: str) -> BulkEndpoint:
    if resource not in table:
        raise VoucherifyConfigurationError(f"unknown resource {resource!r}: it must be one of {', '.join(RESOURCES)}")
    return table[resource]
