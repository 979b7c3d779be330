"""
Metadata schemas: what they demand of a record, and the vendor's wording for a violation.

Types and constraints are those of ``GET /v1/metadata-schemas`` in the contract; the wording follows the vendor's
examples of ``metadata_validation_failed``. Where the vendor shows no wording (dates, lengths, bounds, undefined keys)
the text is ours, in the same style.

A definition of a type that the vendor does not document is shown and accepts anything, so that a client can be tried
against types of the future. A constraint that makes no sense for its type (a length of a number) is shown and ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_GEOPOINT = re.compile(r"\s*-?\d+(\.\d+)?\s*,\s*-?\d+(\.\d+)?\s*")
_IMAGE_URL = re.compile(r"https?://\S+\.(jpg|jpeg|png)(\?\S*)?", re.IGNORECASE)
_RESOURCES_TO_OBJECTS = {"customers": "customer", "products": "product", "vouchers": "voucher"}


def object_name(resource: str) -> str:
    """Return the name of a resource's object: ``customer`` for ``customers``; any other name stays as it is."""
    return _RESOURCES_TO_OBJECTS.get(resource, resource)


def is_iso_date(value: object) -> bool:
    """Whether a value is a ``YYYY-MM-DD`` string that names a real day."""
    return isinstance(value, str) and _ISO_DATE.fullmatch(value) is not None and _parses(date.fromisoformat, value)


def parse_iso_datetime(text: str) -> datetime:
    """Return the moment in an ISO-8601 date or date-time; raise ``ValueError`` for anything else."""
    return datetime.fromisoformat(text)


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("must be a string", lambda value: isinstance(value, str)),
    "number": ("must be a number", _is_number),
    "boolean": ("must be a boolean", lambda value: isinstance(value, bool)),
    "date": ("must be an ISO-8601 date", is_iso_date),
    "datetime": (
        "must be an ISO-8601 date time",
        lambda value: isinstance(value, str) and _parses(parse_iso_datetime, value),
    ),
    "image_url": ("must be a URL pointing to JPG/JPEG or PNG resource", _matches(_IMAGE_URL)),
    "geopoint": ("must be a geopoint", _matches(_GEOPOINT)),
    "object": ("must be an object", lambda value: isinstance(value, dict)),
}

"""Type name to what it demands in words, and whether a value is of it."""

_TYPES_WITH_BOUNDS = {"number": ("lt", "lte", "gt", "gte"), "string": ("minLength", "maxLength", "exactLength")}
_TYPES_WITH_CONSTRAINTS = {name: ("eq", "ne", *_TYPES_WITH_BOUNDS.get(name, ())) for name in TYPES}

_CONSTRAINTS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "eq": ("must be equal to one of {}", lambda value, allowed: value in allowed),
    "ne": ("must not be equal to any of {}", lambda value, banned: value not in banned),
    "lt": ("must be less than {}", lambda value, bound: value < bound),
    "lte": ("must be less than or equal to {}", lambda value, bound: value <= bound),
    "gt": ("must be greater than {}", lambda value, bound: value > bound),
    "gte": ("must be greater than or equal to {}", lambda value, bound: value >= bound),
    "minLength": ("must have a minimum length of {}", lambda value, length: len(value) >= length),
    "maxLength": ("must have a maximum length of {}", lambda value, length: len(value) <= length),
    "exactLength": ("must have a length of {}", lambda value, length: len(value) == length),
}


@dataclass(frozen=True, slots=True)
class Definition:
    """
    One metadata key of a schema.

    :param type: the documented type name, e.g. ``string`` or ``geopoint``.
    :param array: whether the value is a list of that type.
    :param optional: whether a record may be created without the key.
    :param object_type: the custom schema of an ``object``, None for a free one.
    :param constraints: documented constraint name (``eq``, ``lte``, ``maxLength`` …) to its value.
    """

    type: str
    array: bool
    optional: bool
    object_type: str | None
    constraints: Mapping[str, Any]

    @classmethod
    def read(cls, wire: Mapping[str, Any]) -> Definition:
        """Return the definition in the API's form; both ``maxLength`` and ``max_length`` spellings are known."""
        named = {_camel_case(name): value for name, value in wire.items()}
        return cls(
            type=named["type"],
            array=named.get("array", False),
            optional=named.get("optional", True),
            object_type=named.get("objectType"),
            constraints={name: named[name] for name in _CONSTRAINTS if name in named},
        )

    def wire(self) -> dict[str, Any]:
        """Return the definition as ``GET /v1/metadata-schemas`` shows it."""
        return {
            "type": self.type,
            "array": self.array,
            "optional": self.optional,
            "objectType": self.object_type,
            **self.constraints,
        }

    def accepts(self, value: object) -> bool:
        """Whether a value that is present fits; ``null`` fits an optional key only."""
        if value is None:
            return self.optional
        if self.array:
            return isinstance(value, list) and all(self._accepts_one(element) for element in value)
        return self._accepts_one(value)

    def _accepts_one(self, value: object) -> bool:
        if self.type not in TYPES:
            return True
        applied = _TYPES_WITH_CONSTRAINTS[self.type]
        return TYPES[self.type][1](value) and all(
            _CONSTRAINTS[name][1](value, bound) for name, bound in self.constraints.items() if name in applied
        )

    def demands(self) -> str:
        """Return everything the definition demands, in the vendor's words."""
        required = [] if self.optional else ["property is required"]
        constraints = [_CONSTRAINTS[name][0].format(_listed(bound)) for name, bound in self.constraints.items()]
        of_one_value = TYPES[self.type][0] if self.type in TYPES else f"must be a {self.type}"
        if not self.array:
            return ", ".join([of_one_value, *required, *constraints])
        every_element = ", ".join([of_one_value, *constraints])
        return ", ".join(["must be an array", *required, f"and every element: {every_element}"])


@dataclass(frozen=True, slots=True)
class MetadataSchema:
    """
    The metadata schema of one kind of object.

    :param definitions: key to definition, without the deleted ones.
    :param deleted: the deleted ones, which are shown and no longer applied.
    :param allow_defined_only: whether keys without a definition are refused.
    """

    definitions: Mapping[str, Definition]
    deleted: Mapping[str, Definition]
    allow_defined_only: bool

    @classmethod
    def read(cls, wire: Mapping[str, Any]) -> MetadataSchema:
        """Return the schema in the API's form: ``properties`` and ``allow_defined_only``."""
        properties: Mapping[str, Mapping[str, Any]] = wire["properties"]
        read = {key: Definition.read(definition) for key, definition in properties.items()}
        return cls(
            definitions={key: definition for key, definition in read.items() if not properties[key].get("deleted")},
            deleted={key: definition for key, definition in read.items() if properties[key].get("deleted")},
            allow_defined_only=bool(wire.get("allow_defined_only")),
        )

    def wire(self) -> dict[str, Any]:
        """Return ``properties`` and ``allow_defined_only`` as ``GET /v1/metadata-schemas`` shows them."""
        live = {key: definition.wire() for key, definition in self.definitions.items()}
        deleted = {key: {**definition.wire(), "deleted": True} for key, definition in self.deleted.items()}
        return {"properties": {**live, **deleted}, "allow_defined_only": self.allow_defined_only}


def metadata_violation(
    metadata: Mapping[str, Any], schema: MetadataSchema, custom: Mapping[str, MetadataSchema], *, creates: bool
) -> str | None:
    """
    Return the ``details`` text for metadata that violates its schema, None when it fits.

    :param custom: the schemas that an ``object`` definition can name.
    :param creates: whether the record is new; only then must the required keys be there.
    """
    return "; ".join(_violations(metadata, schema, custom, creates, prefix="")) or None


def _violations(
    metadata: Mapping[str, Any],
    schema: MetadataSchema,
    custom: Mapping[str, MetadataSchema],
    creates: bool,
    prefix: str,
) -> Iterator[str]:
    for key, definition in schema.definitions.items():
        if key not in metadata:
            if creates and not definition.optional:
                yield f"{prefix}{key}: {definition.demands()} (actual value is 'undefined')"
        elif not definition.accepts(metadata[key]):
            yield f"{prefix}{key}: {definition.demands()} (actual value is '{_shown(metadata[key])}')"
        elif definition.type == "object" and not prefix:
            object_schema = custom.get(definition.object_type or "")
            nested = metadata[key] if definition.array else [metadata[key]]
            for value in nested or []:
                if value is not None and object_schema is not None:
                    yield from _violations(value, object_schema, custom, creates, prefix=f"{key}.")
    if schema.allow_defined_only:
        for key, value in metadata.items():
            if key not in schema.definitions:
                yield f"{prefix}{key}: property is not defined (actual value is '{_shown(value)}')"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _listed(bound: object) -> str:
    return ",".join(map(_shown, bound)) if isinstance(bound, list) else _shown(bound)


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
