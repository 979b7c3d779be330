"""
Equal metadata sent once: which records are cheaper as a list of ids for ``metadata/async``.

A body of records repeats the metadata for each; ``metadata/async`` takes one metadata object for any number of ids, but
a request for every distinct object. Requests are what is scarce, so a group of records with equal metadata goes there
only if that saves requests, or bytes at the same number of requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.destination import BatchLimits, Destination, ids_destination
from airflow_provider_voucherify.sync.batches.spool import Spool

MetadataPlan = Literal["auto", "bulk", "metadata"]

MAX_GROUPS = 1_000
"""Distinct metadata objects, each a request or more, that ``plan="metadata"`` sends."""

_COUNTERS = 4_096
_SEPARATOR = b',"metadata":'
_AROUND_IDS = 32
"""Approximate bytes of a body around the ids and the metadata."""


@dataclass(frozen=True, slots=True)
class Group:
    """
    Records with the same metadata.

    :param metadata: its JSON.
    :param records: how many.
    :param record_bytes: bytes that they take as records, separators included.
    :param id_bytes: bytes that they take as ids, separators included.
    """

    metadata: bytes
    records: int
    record_bytes: int
    id_bytes: int


def choose_groups(groups: Sequence[Group], records: int, size: int, limits: BatchLimits) -> list[Group]:
    """
    Choose the groups to send by ``metadata/async``: fewest requests in total, then fewest bytes.

    :param groups: the largest ones.
    :param records: total number of records.
    :param size: bytes of all of them as records.
    """
    costs = {group.metadata: limits.requests(group.records, group.id_bytes, _overhead(group)) for group in groups}
    by_gain = sorted(groups, key=lambda g: (costs[g.metadata] * limits.max_bytes - g.record_bytes, g.metadata))
    best = (limits.requests(records, size, 2), size)
    chosen: list[Group] = []
    for count in range(1, len(by_gain) + 1):
        taken = by_gain[:count]
        rest = size - sum(group.record_bytes for group in taken)
        rest_records = records - sum(group.records for group in taken)
        requests = limits.requests(rest_records, rest, 2) + sum(costs[group.metadata] for group in taken)
        sent = rest + sum(group.id_bytes + costs[group.metadata] * _overhead(group) for group in taken)
        if (requests, sent) < best:
            best, chosen = (requests, sent), taken
    return chosen


def group_by_metadata(spool: Spool, plan: MetadataPlan, limits: BatchLimits) -> list[Spool] | None:
    """
    Split records that have only an id and metadata into spools, one for each destination.

    Memory does not grow with the number of distinct metadata objects: beyond a few thousand only those are counted that
    make up a notable share of all bytes, and only these could be worth a separate request.

    :param spool: records for ``bulk/async``, after ``find_superseded``; it is not closed.
    :param plan: ``auto`` as above; ``metadata`` gives every distinct metadata object its own requests.
    :returns: None if all go as they are.
    :raises VoucherifyConfigurationError: ``metadata`` would take more than a thousand requests.
    """
    is_asked_for = plan == "metadata"
    chosen = _groups(spool, _counted(spool, limit=MAX_GROUPS)) if is_asked_for else _worth_it(spool, limits)
    return _split(spool, chosen) if chosen else None


def _worth_it(spool: Spool, limits: BatchLimits) -> list[Group]:
    alone = None
    if limits.requests(spool.sendable, spool.sendable_bytes, 2) == 1:
        alone = next((item.partition(_SEPARATOR)[2] for items in spool.blocks() for item in items), None)
        if any(item.partition(_SEPARATOR)[2] != alone for items in spool.blocks() for item in items):
            return []
    counted = _counted(spool) if alone is None else {alone}
    return choose_groups(_groups(spool, counted), spool.sendable, spool.sendable_bytes, limits)


def _counted(spool: Spool, limit: int | None = None) -> set[bytes]:
    """
    Return the metadata (and the record's closing brace) of all groups, or of those that may be large.

    If there are too many to count, the smallest counts are dropped and the others lowered by as much, again and again:
    a group with more than 1 / 4,096 of all records always remains (Misra and Gries, 1982).
    """
    counts: Counter[bytes] = Counter()
    for items in spool.blocks():
        counts.update(item.partition(_SEPARATOR)[2] for item in items)
        if limit is not None and len(counts) > limit:
            raise VoucherifyConfigurationError(
                f"plan='metadata' takes a request for each distinct metadata, and there are more than {limit:,}; "
                "plan='auto' or 'bulk' sends them in few requests"
            )
        if len(counts) > 2 * _COUNTERS:
            lower = sorted(counts.values(), reverse=True)[_COUNTERS]
            counts = Counter({metadata: count - lower for metadata, count in counts.items() if count > lower})
    return set(counts)


def _groups(spool: Spool, wanted: Iterable[bytes]) -> list[Group]:
    """Measure the wanted groups exactly; the largest come first, in an order that is the same in every process."""
    sums_of: dict[bytes, list[int]] = {metadata: [0, 0, 0] for metadata in wanted}
    before = len(_before_id(spool.destination))
    for items in spool.blocks():
        for item in items:
            head, _, metadata = item.partition(_SEPARATOR)
            if (sums := sums_of.get(metadata)) is not None:
                sums[0] += 1
                sums[1] += len(item) + 1
                sums[2] += len(head) - before + 1
    groups = [Group(metadata[:-1], *sums) for metadata, sums in sums_of.items() if sums[0]]
    return sorted(groups, key=_largest_first)


def _split(spool: Spool, chosen: Sequence[Group]) -> list[Spool]:
    resource = spool.destination.endpoint.resource
    targets = {group.metadata + b"}": Spool(ids_destination(resource, group.metadata)) for group in chosen}
    rest = Spool(spool.destination)
    before = len(_before_id(spool.destination))
    for items in spool.blocks():
        for target, lines in _by_target(items, targets, before):
            (targets[target] if target is not None else rest).add_distinct(b"\n".join(lines) + b"\n", len(lines))
    return [*targets.values(), rest]


def _by_target(
    items: Iterable[bytes], targets: Mapping[bytes, Spool], before: int
) -> Iterator[tuple[bytes | None, list[bytes]]]:
    split: dict[bytes | None, list[bytes]] = {}
    for item in items:
        head, _, metadata = item.partition(_SEPARATOR)
        if metadata in targets:
            split.setdefault(metadata, []).append(head[before:])
        else:
            split.setdefault(None, []).append(item)
    yield from split.items()


def _largest_first(group: Group) -> tuple[int, bytes]:
    return -group.record_bytes, group.metadata


def _before_id(destination: Destination) -> bytes:
    return b'{"%s":' % destination.endpoint.key.encode()


def _overhead(group: Group) -> int:
    return len(group.metadata) + _AROUND_IDS
