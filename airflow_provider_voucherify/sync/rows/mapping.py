"""Columns to record fields: what goes where, decided once per list of columns; see ``record_builder``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from airflow_provider_voucherify.models.endpoints import BulkEndpoint, Field
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, refuse_all
from airflow_provider_voucherify.models.spelling import did_you_mean
from airflow_provider_voucherify.sync.rows.metadata_rules import MetadataRules
from airflow_provider_voucherify.sync.rows.record_builder import RecordBuilder, Target
from airflow_provider_voucherify.sync.rows.values import (
    Converter,
    RefusedValueError,
    converter_for,
    present_metadata,
    present_object,
    to_metadata,
    to_object,
)

NullPolicy = Literal["omit", "send"]
NULL_POLICIES: tuple[NullPolicy, ...] = ("omit", "send")

_INDEX_OF_PANDAS = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class MappingRules:
    """
    How columns become fields; the operators' parameters of the same names.

    :param mapping: column to field path (``name``, ``address.city``, ``metadata.segment``); with it, columns that
        it does not name are not sent. Without it, columns named like API fields (in any case) map to them,
        ``address_city`` or ``address.city`` into the address, every other column into metadata.
    :param metadata_columns: without a mapping, the only columns that go into metadata.
    :param exclude_columns: columns that are never sent.
    :param schema: the project's metadata schema; values that it does not allow are refused.
    :param null_policy: ``omit`` leaves a missing value out, so that it never blanks a field; ``send`` sends JSON
        ``null`` where the API accepts one (a whole address, its members, and members of metadata). Both apply to
        members of objects too, at any depth. A mapping of column to policy sets it per column, ``omit`` for the others.
    """

    mapping: Mapping[str, str] | None = None
    metadata_columns: Collection[str] | None = None
    exclude_columns: Collection[str] = ()
    null_policy: NullPolicy | Mapping[str, NullPolicy] = "omit"
    schema: MetadataRules | None = None

    def __post_init__(self) -> None:
        policies = self.null_policy.values() if isinstance(self.null_policy, Mapping) else [self.null_policy]
        if wrong := [policy for policy in policies if policy not in NULL_POLICIES]:
            raise VoucherifyConfigurationError(f"null_policy must be 'omit' or 'send', not {wrong[0]!r}")
        for name in ("metadata_columns", "exclude_columns"):
            if isinstance(value := getattr(self, name), str):
                raise VoucherifyConfigurationError(f"{name} must be a list of column names, not one string")
            if value is not None and not (isinstance(value, Collection) and all(isinstance(one, str) for one in value)):
                raise VoucherifyConfigurationError(f"{name} must be a list of column names, not {value!r:.200}")
        if isinstance(self.mapping, Mapping):
            _check_names(self.mapping)


def _check_names(mapping: Mapping[Any, Any]) -> None:
    for column, field in mapping.items():
        if not isinstance(column, str) or not isinstance(field, str):
            both = isinstance(field, Collection) and not isinstance(field, str)
            raise VoucherifyConfigurationError(
                f"mapping must give each column's name one field's name, not {column!r:.100} {field!r:.100}"
                + ("; to send a column to two fields, the source must have it twice, under two names" if both else "")
            )


def check_mapping(endpoint: BulkEndpoint, rules: MappingRules) -> None:
    """
    Check what can be checked before any row is read.

    :raises VoucherifyConfigurationError: naming all mistakes: unknown fields, fields that several columns would become,
        and a missing column for the key.
    """
    if rules.mapping is None:
        return
    if not isinstance(rules.mapping, Mapping):
        raise VoucherifyConfigurationError(f"mapping must be a dict of column to field, not {rules.mapping!r:.200}")
    refuse_all(_mistakes(endpoint, rules.mapping, {name.lower() for name in rules.exclude_columns}))


def _mistakes(endpoint: BulkEndpoint, mapping: Mapping[str, str], excluded: Collection[str]) -> Iterator[str]:
    for field in dict.fromkeys(mapping.values()):
        try:
            checked_path(endpoint, field)
        except VoucherifyConfigurationError as error:
            yield str(error)
    if endpoint.key not in mapping.values():
        yield f"the mapping names no column for {endpoint.key}, which {endpoint.resource} need"
    sources: dict[str, list[str]] = {}
    for column, field in mapping.items():
        if column.lower() not in excluded:
            sources.setdefault(field, []).append(repr(column))
    for field, (first, *others) in sources.items():
        if others:
            names = f"{', '.join([first, *others[:-1]])} and {others[-1]}"
            yield f"columns {names} would {'both' if len(others) == 1 else 'all'} become {field}; map one of them only"


def compile_mapping(endpoint: BulkEndpoint, columns: Sequence[str], rules: MappingRules) -> RecordBuilder:
    """
    Decide where each column goes.

    :param endpoint: whose fields the records have.
    :param columns: the rows' column names, in order.
    :raises VoucherifyConfigurationError: no column gives the key, two columns give the same field, or the mapping
        names a column or field that does not exist.
    """
    rules = replace(rules, exclude_columns=_excluded(columns, rules))
    paths = _given_paths(endpoint, columns, rules) if rules.mapping is not None else _paths(endpoint, columns, rules)
    if len(set(columns)) != len(columns):
        _check_that_one_is_meant(paths, columns, rules)
    taken: dict[tuple[str, ...], str] = {}
    for name, path in paths.items():
        if path in taken:
            raise VoucherifyConfigurationError(
                f"columns {taken[path]!r} and {name!r} would both become {'.'.join(path)}; exclude or map one of them"
            )
        taken[path] = name
    if (endpoint.key,) not in taken:
        raise VoucherifyConfigurationError(
            f"no column gives {endpoint.key}, which {endpoint.resource} need; the rows have "
            f"{', '.join(map(repr, columns)) or 'no columns'}. Name one with mapping={{'<column>': '{endpoint.key}'}}"
        )
    positions = {name: index for index, name in enumerate(columns)}
    targets = [
        _checked(_target(endpoint, positions[name], name, path, rules), rules.schema)
        for name, path in paths.items()
        if path != (endpoint.key,)
    ]
    return RecordBuilder(
        key=endpoint.key,
        key_column=positions[taken[(endpoint.key,)]],
        targets=tuple(targets),
        required=tuple(name for name in endpoint.required if name != endpoint.key),
    )


def unnamed_columns(columns: Sequence[str], rules: MappingRules) -> list[str]:
    """Return the columns that are left out only because they have no real name."""
    if rules.mapping is not None or rules.metadata_columns is not None:
        return []
    excluded = _excluded(columns, rules)
    return [name for name in dict.fromkeys(columns) if _is_unnamed(name) and name not in excluded]


def _is_unnamed(column: str) -> bool:
    """Say whether a column has no name, or one that PostgreSQL or pandas (row numbers in Parquet) makes up."""
    name = column.removeprefix("metadata.")
    return name.strip() in ("", "?column?") or _INDEX_OF_PANDAS.fullmatch(name) is not None


def _check_that_one_is_meant(paths: Collection[str], columns: Sequence[str], rules: MappingRules) -> None:
    if twice := [name for name, count in Counter(columns).items() if count > 1 and name in paths]:
        advice = "leave them out of the mapping" if rules.mapping is not None else f"exclude_columns={twice!r}"
        raise VoucherifyConfigurationError(
            f"several columns have the name {', '.join(map(repr, twice))}, and cannot be distinguished: "
            f"rename them, or send none of them ({advice})"
        )


def _excluded(columns: Sequence[str], rules: MappingRules) -> set[str]:
    """Return the columns to exclude, in any case: a column must not be sent because a warehouse uses upper case."""
    wanted = {name.lower() for name in rules.exclude_columns}
    return {name for name in columns if name.lower() in wanted}


def _given_paths(endpoint: BulkEndpoint, columns: Sequence[str], rules: MappingRules) -> dict[str, tuple[str, ...]]:
    paths: dict[str, tuple[str, ...]] = {}
    for name, target in (rules.mapping or {}).items():
        if name not in columns:
            raise VoucherifyConfigurationError(
                f"the mapping names a column {name!r} that the rows do not have{did_you_mean(name, columns)}; they "
                f"have {', '.join(map(repr, columns)) or 'no columns'}"
            )
        if name not in rules.exclude_columns:
            paths[name] = checked_path(endpoint, target)
    return paths


def checked_path(endpoint: BulkEndpoint, target: str) -> tuple[str, ...]:
    """
    Split a field path such as ``address.city`` and check that the endpoint has it.

    :raises VoucherifyConfigurationError: naming the fields that there are.
    """
    first, _, rest = target.partition(".")
    described = endpoint.fields.get(first)
    if described is None:
        known = ", ".join(endpoint.fields)
        raise VoucherifyConfigurationError(
            f"a bulk update of {endpoint.resource} has no field {target!r}, only {known}"
            f"{did_you_mean(target, endpoint.fields)}; anything else goes into metadata ('metadata.{target}')"
        )
    if not rest:
        return (first,)
    if described.type != "object" or (described.fields and rest not in described.fields):
        known = ", ".join(described.fields)
        raise VoucherifyConfigurationError(
            f"{endpoint.resource} have no field {target!r}" + (f"; {first} has {known}" if known else "")
        )
    return (first, rest)


def _paths(endpoint: BulkEndpoint, columns: Sequence[str], rules: MappingRules) -> dict[str, tuple[str, ...]]:
    paths: dict[str, tuple[str, ...]] = {}
    for name in columns:
        if name in rules.exclude_columns or (_is_unnamed(name) and name not in (rules.metadata_columns or ())):
            continue
        path = _path_by_name(endpoint, name)
        if path is not None:
            paths[name] = path
        elif rules.metadata_columns is None or name in rules.metadata_columns:
            prefix = "metadata."
            paths[name] = ("metadata", name[len(prefix) :] if name.lower().startswith(prefix) else name)
    return paths


def check_columns(columns: Sequence[str], rules: MappingRules) -> None:
    """
    Check that the columns that rules name exist, for a source whose rows all have the same columns.

    :raises VoucherifyConfigurationError: a name is unknown; ignoring it would silently send what it should exclude.
    """
    for parameter, missing in absent_columns(columns, replace(rules, mapping=None)):
        names = ", ".join(missing)
        raise VoucherifyConfigurationError(f"{parameter} names columns that the rows do not have: {names}")


def absent_columns(columns: Collection[str], rules: MappingRules) -> Iterator[tuple[str, list[str]]]:
    """Give each parameter that names columns that are not among some, with their names."""
    lower = {name.lower() for name in columns}
    named = {
        "mapping": set(rules.mapping or ()) - set(columns),
        "metadata_columns": set(rules.metadata_columns or ()) - set(columns),
        "exclude_columns": {name for name in rules.exclude_columns if name.lower() not in lower},
        "null_policy": set(rules.null_policy) - set(columns) if isinstance(rules.null_policy, Mapping) else set(),
    }
    return ((parameter, sorted(absent)) for parameter, absent in named.items() if absent)


def _path_by_name(endpoint: BulkEndpoint, column: str) -> tuple[str, ...] | None:
    name = column.lower()
    if name in endpoint.fields:
        return (name,)
    for outer, described in endpoint.fields.items():
        for inner in described.fields:
            if name in (f"{outer}.{inner}", f"{outer}_{inner}"):
                return (outer, inner)
    return None


def _target(endpoint: BulkEndpoint, column: int, name: str, path: tuple[str, ...], rules: MappingRules) -> Target:
    described: Field | None = endpoint.fields[path[0]]
    if described is not None and len(path) == 2:
        described = described.fields.get(path[1])
    sends = sends_null(rules.null_policy, name)
    nullable, is_object = described is None or described.nullable, described is not None and described.type == "object"
    shown = ".".join(path)
    if sends and not nullable and not is_object and rules.null_policy != "send":
        raise VoucherifyConfigurationError(
            f"null_policy asks to send null for {name!r}, but the API description does not allow null in {shown}; "
            "it does in metadata" + (" and in the address" if "address" in endpoint.fields else "")
        )
    if described is None:
        convert: Converter = to_metadata if sends else present_metadata
    elif described.fields:
        convert = _documented_object(described, sends)
    else:
        convert = present_object if is_object and not sends else converter_for(described)
    label = shown if shown == name else f"{shown} (column {name})"
    return Target(column, label, path, described, convert, sends and nullable)


def sends_null(null_policy: NullPolicy | Mapping[str, NullPolicy], name: str) -> bool:
    """Say whether a policy sends the missing values of a column as null."""
    return (null_policy if isinstance(null_policy, str) else null_policy.get(name)) == "send"


def _checked(target: Target, schema: MetadataRules | None) -> Target:
    """Add what the project's schema says about a member of metadata, or about all of it."""
    if schema is None or target.path[0] != "metadata":
        return target
    check = schema.check if len(target.path) == 1 else schema.column_check(target.path[1])
    if check is None:
        return target
    convert, must_fit = target.convert, check

    def convert_and_check(value: Any) -> Any:
        converted = convert(value)
        if converted is not None:
            must_fit(converted)
        return converted

    return replace(target, convert=convert_and_check, checked=True)


def _documented_object(described: Field, sends: bool) -> Converter:
    parts: dict[str, Callable[[Any], Any]] = {part: converter_for(f) for part, f in described.fields.items()}

    def convert(value: Any) -> dict[str, Any] | None:
        converted = to_object(value)
        if unknown := [part for part in converted if part not in parts]:
            raise RefusedValueError(f"has an unknown field {unknown[0]!r}; it may have {', '.join(parts)}")
        members = {
            part: None if item is None else parts[part](item)
            for part, item in converted.items()
            if sends or item is not None
        }
        return members if members or sends else None

    return convert
