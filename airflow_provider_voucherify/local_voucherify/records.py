"""
The stored customers, products, vouchers and SKUs, and the objects that the API shows for them.

A million objects fit in memory because each is kept as one compact JSON string and decoded only when it is read.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from airflow_provider_voucherify.local_voucherify.options import MetadataMode


class _Stored(msgspec.Struct, array_like=True):
    fields: dict[str, Any]
    created_at: str
    updated_at: str | None


class _Metadata(msgspec.Struct):
    metadata: dict[str, msgspec.Raw] | None = None


class _OnlyMetadata(msgspec.Struct, array_like=True):
    fields: _Metadata


_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder(_OnlyMetadata).decode
_decode = msgspec.json.Decoder(_Stored).decode


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """
    How one resource appears in the API.

    :param name: value of ``object`` and of ``resource_type``.
    :param key: ``source_id`` or ``code``.
    :param id_prefix: what Voucherify's own ids start with.
    :param never_updated: what is shown of ``updated_at`` before the first update: null, or nothing. Null is what the
        vendor's examples have for vouchers; the contract has a time there.
    :param describe: stored fields to the fields that the API shows besides ids, dates and ``object``.
    """

    name: str
    key: str
    id_prefix: str
    never_updated: Literal["null", "nothing"]
    describe: Callable[[dict[str, Any]], dict[str, Any]]


def _describe_customer(fields: dict[str, Any]) -> dict[str, Any]:
    redemptions = ("total_redeemed", "total_failed", "total_succeeded", "total_rolled_back")
    rollbacks = ("total_rollback_failed", "total_rollback_succeeded")
    return {
        "address": None,
        "summary": {
            "redemptions": {
                **dict.fromkeys(redemptions + rollbacks, 0),
                "gift": {"redeemed_amount": 0, "amount_to_go": 0},
                "loyalty_card": {"redeemed_points": 0, "points_to_go": 0},
            },
            "orders": {"total_amount": 0, "total_count": 0, "average_amount": 0, "last_order_amount": 0},
        },
        "loyalty": {"points": 0, "referred_customers": 0, "campaigns": {}},
        "referrals": {"total": 0, "campaigns": []},
        "system_metadata": {},
        **fields,
    }


def _describe_product(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": None,
        "price": None,
        "attributes": [],
        "metadata": {},
        "image_url": None,
        "skus": {"object": "list", "data_ref": "data", "data": [], "total": 0},
        **fields,
    }


def _describe_voucher(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "DISCOUNT_VOUCHER",
        "discount": {"type": "PERCENT", "percent_off": 10},
        "active": True,
        "metadata": {},
        "is_referral_code": False,
        "categories": [],
        "validation_rules_assignments": {"object": "list", "data_ref": "data", "data": [], "total": 0},
        **fields,
    }


def _describe_sku(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "product_id": None,
        "sku": None,
        "price": None,
        "currency": None,
        "attributes": {},
        "image_url": None,
        "metadata": {},
        **fields,
    }


OBJECT_KINDS: Mapping[str, ObjectKind] = {
    "customers": ObjectKind("customer", "source_id", "cust_", "nothing", _describe_customer),
    "products": ObjectKind("product", "source_id", "prod_", "null", _describe_product),
    "vouchers": ObjectKind("voucher", "code", "v_", "null", _describe_voucher),
    "skus": ObjectKind("sku", "source_id", "sku_", "null", _describe_sku),
}
"""How the objects of each resource appear in the API."""


_ANONYMOUS = "\0"


def new_anonymous_key() -> str:
    """Return a key for an object that is known by Voucherify's own id alone."""
    return _ANONYMOUS + secrets.token_hex(8)


class RecordStore(Mapping[str, dict[str, Any]]):
    """
    The objects of one resource, by ``source_id`` or ``code``; reading one gives the object that the API shows.

    :param kind: how the objects appear.
    :param stores_fields: False keeps only ids and dates, for loads that nobody reads back.
    :param case_sensitive: whether keys that differ in case alone are different ones.
    """

    def __init__(self, kind: ObjectKind, *, stores_fields: bool, case_sensitive: bool = True) -> None:
        self.kind = kind
        self._case_sensitive = case_sensitive
        self._stores_fields = stores_fields
        self._encoded: dict[str, bytes] = {}
        self._is_shared = False

    def snapshot(self, *, described: bool = True) -> RecordStore:
        """
        Return the objects as they are now, for reading alone; nothing is copied before the next change.

        :param described: whether they have the fields that the API shows of all, besides those that are stored.
        """
        kind = self.kind if described else replace(self.kind, describe=lambda fields: fields)
        frozen = RecordStore(kind, stores_fields=self._stores_fields)
        frozen._encoded, self._is_shared = self._encoded, True
        return frozen

    def _changing(self) -> dict[str, bytes]:
        if self._is_shared:
            self._encoded, self._is_shared = dict(self._encoded), False
        return self._encoded

    def metadata_names(self) -> set[str]:
        """Return the names of the metadata of all objects."""
        names: set[str] = set()
        for encoded in self._encoded.values():
            names.update(_decode_metadata(encoded).fields.metadata or ())
        return names

    def __reversed__(self) -> Iterator[str]:
        """Yield the keys, the newest object first."""
        return reversed(self._encoded)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._encoded)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys in the order of creation."""
        return iter(self._encoded)

    def __contains__(self, key: object) -> bool:
        """Whether there is an object of that key, without decoding it."""
        return key in self._encoded

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the object of that key in the API's form."""
        stored = _decode(self._encoded[key])
        shows_update = stored.updated_at is not None or self.kind.never_updated == "null"
        return {
            "id": self.kind.id_prefix + key.encode().hex(),
            **({} if key.startswith(_ANONYMOUS) else {self.kind.key: key}),
            **self.kind.describe(stored.fields),
            "created_at": stored.created_at,
            **({"updated_at": stored.updated_at} if shows_update else {}),
            "object": self.kind.name,
        }

    def find(self, identifier: str) -> dict[str, Any] | None:
        """Return the object of a key or of one of Voucherify's own ids, None when there is none."""
        key = self.key_of(identifier)
        return None if key is None else self[key]

    def key_of(self, identifier: str) -> str | None:
        """Return the key of the object that has a key or one of Voucherify's own ids, None when there is none."""
        keys = (self.own_spelling(identifier), self._key_of_id(identifier))
        return next((key for key in keys if key in self), None)

    def own_spelling(self, key: str) -> str:
        """Return a key as its object has it; the key itself if there is no such object."""
        if self._case_sensitive or key in self:
            return key
        return next((own for own in self if own.casefold() == key.casefold()), key)

    def _key_of_id(self, identifier: str) -> str:
        if not identifier.startswith(self.kind.id_prefix):
            return identifier
        try:
            return bytes.fromhex(identifier.removeprefix(self.kind.id_prefix)).decode()
        except ValueError:
            return identifier

    def update(self, key: str, changes: dict[str, Any], metadata_mode: MetadataMode, at: str) -> None:
        """
        Create the object of that key or change it; fields that ``changes`` does not name stay as they are.

        :param changes: fields to set, without the key.
        :param metadata_mode: whether ``metadata`` is merged key by key or replaced.
        :param at: the time of the change, as the API writes it.
        """
        encoded = self._encoded.get(key)
        fields = changes if self._stores_fields else {}
        if encoded is None:
            self._changing()[key] = _encode((fields, at, None))
            return
        before = _decode(encoded)
        merged = {**before.fields, **fields}
        if metadata_mode == "merge" and "metadata" in fields:
            merged["metadata"] = {**(before.fields.get("metadata") or {}), **fields["metadata"]}
        self._changing()[key] = _encode((merged, before.created_at, at))

    def replace(self, key: str, fields: dict[str, Any], at: str) -> None:
        """Create the object of that key, or overwrite all its fields."""
        before = self._encoded.get(key)
        stored = fields if self._stores_fields else {}
        changed = (stored, at, None) if before is None else (stored, _decode(before).created_at, at)
        self._changing()[key] = _encode(changed)

    def remove(self, key: str) -> None:
        """Forget an object."""
        del self._changing()[key]
