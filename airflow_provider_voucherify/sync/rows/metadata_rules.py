"""
A project's metadata schema as fast checks, which refuse rows that Voucherify would refuse before they cost a request.

The texts follow the ``metadata_validation_failed`` details that the vendor has published (reference/OpenAPI.json of
2023, documentation/openapi/validations.json and publications.json), as far as those go.

A check refuses only what the vendor documents as refused (documentation/prepare/metadata.mdx and
documentation/openapi/metadata-schemas.json). Where its answer is not documented, the value passes and Voucherify
decides:

- ``null``, also in a list and for a required key: the dashboard can store it, the API is silent;
- a required key that is missing: the object that is updated may have it;
- keys whose definition is deleted, has an unknown type, or does not say whether it is a list;
- ``eq`` and ``ne`` of other types than string and number, bounds of other types than number, lengths of other types
  than string; an empty ``eq``, and an ``eq`` whose values are not all of the definition's type;
- a number that only one reading of its digits (exact, or as a double) puts outside what is allowed;
- a string that has another length in characters than in UTF-16 units, if one of the two is allowed;
- a date-time for a ``date`` and a date for a ``datetime``, since one ISO-8601 rule is documented for both; a day that
  its month does not have;
- for ``image_url``, everything about the text except that it contains JPG, JPEG or PNG;
- the range of a ``geopoint``'s two numbers;
- nested objects of a schema that was not given; in those of one that was, keys that it does not define, and what a
  further object holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from airflow_provider_voucherify.models.metadata_schema import MetadataDefinition, MetadataSchema
from airflow_provider_voucherify.sync.rows.metadata_types import TYPES, Accepts, list_of, object_of
from airflow_provider_voucherify.sync.rows.values import RefusedValueError
from airflow_provider_voucherify.sync.types.text import cut

Check = Callable[[Any], None]

METADATA_VALIDATION_FAILED = "metadata_validation_failed"
"""The server's ``key`` of such an error."""

_MAX_SHOWN_VALUE = 150
_MAX_SHOWN_LIST = 200

_DEMANDS = {
    "eq": "must be equal to one of {}",
    "ne": "must not be equal to any of {}",
    "lt": "must be less than {}",
    "lte": "must be less than or equal to {}",
    "gt": "must be greater than {}",
    "gte": "must be greater than or equal to {}",
    "min_length": "must have a minimum length of {}",
    "max_length": "must have a maximum length of {}",
    "exact_length": "must have a length of {}",
}


class RefusedMetadataError(RefusedValueError):
    """
    Metadata that the project's schema refuses.

    The message is like the ``details`` of the server's error, its ``key`` is ``METADATA_VALIDATION_FAILED``. Unlike
    that of other refused values it begins with the metadata key. Long values and lists are shortened.
    """


@dataclass(frozen=True, slots=True)
class MetadataRules:
    """
    What a project requires of the metadata of one kind of object; made by ``compile_schema``, safe to share.

    All checks take values that ``values.to_metadata`` has converted.

    :param allow_defined_only: whether a key that the schema does not define is refused.
    """

    allow_defined_only: bool
    _rules: Mapping[str, _Rule]

    def check(self, metadata: Mapping[str, Any]) -> None:
        """
        Check a whole metadata object.

        :raises RefusedMetadataError: naming every key that is wrong.
        """
        problems = [*self._problems(metadata)]
        if self.allow_defined_only:
            problems += [_undefined(key, value) for key, value in metadata.items() if self._refuses(key, value)]
        if problems:
            raise RefusedMetadataError("; ".join(problems))

    def column_check(self, name: str) -> Check | None:
        """
        Return the check of one key's values; None if there is nothing to check.

        The check returns nothing, or raises ``RefusedMetadataError``. It does not handle missing keys.

        :param name: metadata key.
        """
        if name in self._rules:
            return self._rules[name].check
        return _refusal_of(name) if self.allow_defined_only else None

    def unknown_key(self, name: str) -> bool:
        """Say whether a metadata key is refused whatever its value (except null), because the schema lacks it."""
        return self.allow_defined_only and name not in self._rules

    @property
    def members(self) -> list[tuple[str, Accepts]]:
        """The keys with the predicate for each, except those that are not checked."""
        return [(key, rule.accepts) for key, rule in self._rules.items() if rule.accepts is not None]

    def _refuses(self, key: str, value: Any) -> bool:
        return value is not None and self.unknown_key(key)

    def _problems(self, metadata: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
        for key, rule in self._rules.items():
            if key in metadata:
                yield from rule.problems(prefix + key, metadata[key])


@dataclass(frozen=True, slots=True)
class _Rule:
    """
    What the schema says about one key.

    :param demands: all its requirements, in the vendor's words.
    :param accepts: False only for what is certainly refused; None if nothing is checked.
    :param array: whether the value is a list.
    :param nested: the rules of an object, or of a list's objects.
    :param check: ``accepts`` as a check that raises.
    """

    demands: str
    accepts: Accepts | None = None
    array: bool = False
    nested: MetadataRules | None = None
    check: Check | None = None

    def problems(self, name: str, value: Any) -> Iterator[str]:
        """Yield what is wrong with a value, key by key for nested objects."""
        objects = None if self.nested is None else self._objects(value)
        if self.nested is not None and objects is not None:
            for item in objects:
                yield from self.nested._problems(item, prefix=f"{name}.")
        elif self.accepts is not None and not self.accepts(value):
            yield _problem(name, self.demands, value)

    def _objects(self, value: Any) -> list[dict[str, Any]] | None:
        """Return the nested objects; None if the value is something else."""
        if self.array and not isinstance(value, list):
            return None
        present = [item for item in (value if self.array else [value]) if item is not None]
        return present if all(isinstance(item, dict) for item in present) else None


def compile_schema(schema: MetadataSchema, nested: Iterable[MetadataSchema] = ()) -> MetadataRules:
    """
    Turn a metadata schema into checks, once for all rows.

    :param schema: of the objects whose metadata will be checked.
    :param nested: the custom schemas for nested objects, as ``GET /v1/metadata-schemas`` lists them beside others;
        those that ``schema.object_types`` names are used.
    """
    by_name = {other.related_object: _rules(other, {}) for other in nested if other.related_object is not None}
    return _rules(schema, by_name)


def _rules(schema: MetadataSchema, nested: Mapping[str, MetadataRules]) -> MetadataRules:
    return MetadataRules(
        allow_defined_only=schema.allow_defined_only is True,
        _rules={key: _rule(key, definition, nested) for key, definition in schema.properties.items()},
    )


def _rule(key: str, definition: MetadataDefinition, nested: Mapping[str, MetadataRules]) -> _Rule:
    demands = _demands(definition)
    if definition.deleted or definition.array is None or definition.type not in TYPES:
        return _Rule(demands)
    inner = nested.get(definition.object_type or "") if definition.type == "object" else None
    one = TYPES[definition.type][1](definition) if inner is None else object_of(inner.members)
    accepts = list_of(one) if definition.array else one
    rule = _Rule(demands, accepts, definition.array, inner)
    return replace(rule, check=_check(key, rule, accepts))


def _check(key: str, rule: _Rule, accepts: Accepts) -> Check:
    def check(value: Any) -> None:
        if not accepts(value):
            raise RefusedMetadataError("; ".join(rule.problems(key, value)))

    return check


def _refusal_of(key: str) -> Check:
    def check(value: Any) -> None:
        if value is not None:
            raise RefusedMetadataError(_undefined(key, value))

    return check


def _demands(definition: MetadataDefinition) -> str:
    of_type = [TYPES[definition.type][0]] if definition.type in TYPES else []
    required = ["property is required"] if definition.optional is False else []
    constraints = [
        words.format(_listed(bound))
        for name, words in _DEMANDS.items()
        if (bound := getattr(definition, name)) is not None
    ]
    if not definition.array:
        return ", ".join([*of_type, *required, *constraints])
    every_element = ", ".join([*of_type, *constraints])
    return ", ".join(["must be an array", *required, f"and every element: {every_element}"])


def _problem(key: str, demands: str, value: Any) -> str:
    return f"{key}: {demands} (actual value is '{cut(_shown(value), _MAX_SHOWN_VALUE)}')"


def _undefined(key: str, value: Any) -> str:
    return _problem(key, "property is not defined", value)


def _shown(value: Any) -> str:
    if isinstance(value, str | Decimal):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=float)


def _listed(bound: Any) -> str:
    return cut(",".join(map(_shown, bound)), _MAX_SHOWN_LIST) if isinstance(bound, list) else _shown(bound)
