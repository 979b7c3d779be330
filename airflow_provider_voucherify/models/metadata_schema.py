"""
Voucherify's metadata schemas, read tolerantly: the rules of a project for the metadata of one kind of object.

Sources: documentation/openapi/metadata-schemas.json (v1, with names such as ``maxLength``) and management.json (the
Management API, with ``max_length``); both spellings are read. Anything that is absent,
unknown or malformed is None: a rule that cannot be read does not apply.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, TypeGuard

from pydantic import AliasChoices, AliasGenerator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from airflow_provider_voucherify.models.tolerant import Count, Flag, Text


def _list_or_none(value: object) -> list[Any] | None:
    return value if isinstance(value, list) else None


def _number_or_none(value: object) -> int | float | None:
    return value if is_number(value) else None


def _definitions(value: object) -> object:
    """Keep the key of a definition that cannot be read: the schema still defines it."""
    if not isinstance(value, dict):
        return value
    return {key: definition if isinstance(definition, dict) else {} for key, definition in value.items()}


def _readable_schemas(value: object) -> object:
    if not isinstance(value, list):
        return value
    return [item for item in value if isinstance(item, dict) and isinstance(item.get("properties"), dict)]


_Values = Annotated[list[Any] | None, BeforeValidator(_list_or_none)]
_Number = Annotated[int | float | None, BeforeValidator(_number_or_none)]


def is_number(value: object) -> TypeGuard[int | float]:
    """Say whether a value of decoded JSON is a number that a float can hold."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -sys.float_info.max <= value <= sys.float_info.max
    )


class _Answer(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(to_camel(name), name)),
    )


class MetadataDefinition(_Answer):
    """
    The rules of a schema for one metadata key.

    :param type: ``string``, ``number``, ``boolean``, ``date``, ``datetime``, ``geopoint``, ``image_url`` or ``object``;
        any other word is kept as it is.
    :param array: whether the value is a list of that type.
    :param optional: False if a new object must have the key.
    :param deleted: whether the definition was removed from the schema.
    :param object_type: the custom schema of an ``object``; None for one of any members.
    :param eq: the only values allowed.
    :param ne: values that are not allowed.
    :param lt: the number must be less than this; ``lte``, ``gt`` and ``gte`` likewise.
    :param min_length: of a string, in characters; ``max_length`` and ``exact_length`` likewise.
    """

    type: Text = None
    array: Flag = None
    optional: Flag = None
    deleted: Flag = None
    object_type: Text = None
    eq: _Values = None
    ne: _Values = None
    lt: _Number = None
    lte: _Number = None
    gt: _Number = None
    gte: _Number = None
    min_length: Count = None
    max_length: Count = None
    exact_length: Count = None


class MetadataSchema(_Answer):
    """
    The metadata schema of one kind of object: the answer of ``GET /v1/metadata-schemas/{resource}``.

    :param related_object: ``customer``, ``product``, ``voucher``, another standard object, or a custom schema's name.
    :param properties: metadata key to definition, the deleted ones included.
    :param allow_defined_only: whether metadata may have no other keys.
    """

    id: Text = None
    related_object: Text = None
    properties: Annotated[dict[str, MetadataDefinition], BeforeValidator(_definitions)]
    allow_defined_only: Flag = None
    updated_at: Text = None

    @property
    def object_types(self) -> frozenset[str]:
        """The custom schemas that the definitions name; to check nested objects, these must be read too."""
        live = (definition for definition in self.properties.values() if not definition.deleted)
        return frozenset(definition.object_type for definition in live if definition.object_type is not None)


class MetadataSchemaList(_Answer):
    """
    All metadata schemas of a project, without those that cannot be read.

    The v1 description shows the list as ``schemas`` and requires it as ``data``, which the Management API calls it.
    """

    schemas: Annotated[list[MetadataSchema], BeforeValidator(_readable_schemas)] = Field(
        validation_alias=AliasChoices("schemas", "data")
    )
