"""
Checked records on disk, between reading the source and sending.

Reading everything before the first request lets a duplicate id be sent once (the last row wins), releases the
warehouse before any wait for rate limits, and lets a batch be sent again without reading twice. The files have no name,
so nothing is left behind when the process is killed, and memory does not grow with the rows.

Items are kept as JSON lines in blocks of about a thousand, however few are added at a time. A line break cannot occur
inside an item, so a block is split into items only if one matters: at the end of a batch, or if an id comes twice.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter, lt
from typing import Any, ClassVar, Self

import msgspec

from airflow_provider_voucherify.client.calls import Body, Call, bulk
from airflow_provider_voucherify.sync.batches.bodies import digest_of, ids_of
from airflow_provider_voucherify.sync.batches.destination import Destination
from airflow_provider_voucherify.sync.batches.growing_file import GrowingFile
from airflow_provider_voucherify.sync.batches.id_hashes import IdHashes

_BYTES_PER_READ = 262_144
_ITEMS_PER_WRITE = 1_000
_BYTES_PER_BLOCK = 1024 * 1024

_encode_ids = msgspec.json.Encoder().encode_lines
_decode_ids = msgspec.json.Decoder(str).decode_lines


@dataclass(frozen=True, slots=True)
class Batch:
    """
    One request's worth of records.

    :param number: counts from 1.
    :param records: how many.
    :param length: bytes of the body.
    :param destination: where it goes.
    :param ranges: where the items are in the spool: (offset, bytes), each item followed by a line break.
    """

    number: int
    records: int
    length: int
    destination: Destination
    ranges: tuple[tuple[int, int], ...] = field(repr=False)
    spool: Spool = field(repr=False, compare=False)

    creates_each_time: ClassVar[bool] = False
    """Sending a record twice sends the same values twice, which creates nothing new."""

    @property
    def name(self) -> str:
        """The name in logs."""
        return f"batch {self.number}"

    @property
    def action_type(self) -> str:
        """The ``type`` of the async action that it becomes."""
        return self.destination.endpoint.action_type

    def call(self) -> Call[str]:
        """Return the call that sends it."""
        return bulk(self.destination.endpoint, Body(self.length, self.body))

    def digest(self) -> str:
        """Return a digest of its body and destination."""
        return digest_of(self.destination.endpoint.path, self.body())

    def ids(self) -> list[str]:
        """Return the ids of its records."""
        return self.spool.ids(self.ranges)

    def body(self) -> Iterator[bytes]:
        """Yield the body piece by piece; can be called again, and from another thread."""
        yield self.destination.form.prefix
        for index, (offset, length) in enumerate(self.ranges, start=1):
            end = offset + length - (index == len(self.ranges))
            while offset < end:
                piece = self.spool.read(offset, min(_BYTES_PER_READ, end - offset))
                offset += len(piece)
                yield piece.replace(b"\n", b",")
        yield self.destination.form.suffix


@dataclass(frozen=True, slots=True)
class _Block:
    """
    Items that were written together.

    :param ids: where their ids are in the file of ids: (offset, bytes); no bytes if they are not there.
    """

    offset: int
    length: int
    items: int
    ids: tuple[int, int] = (0, 0)


class Spool:
    """
    Encoded items in order. A context manager; closing it frees the disk.

    :param destination: where the items will go.
    """

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.count = 0
        self._items, self._ids, self._hashes = GrowingFile(), GrowingFile(), IdHashes()
        self._blocks: list[_Block] = []
        self._ascending = True
        self._last: Any = None
        self._superseded: list[int] = []
        self._superseded_bytes = 0

    def add(self, lines: bytes, ids: Sequence[str], keys: Sequence[Any] | None = None) -> None:
        """
        Append encoded items.

        :param lines: the items, each followed by a line break.
        :param ids: of the items' records.
        :param keys: the source's values for the ids, if they are comparable: while each is greater than the one before,
            no id can come twice.
        """
        if not ids:
            return
        if self._ascending and not (keys is not None and self._ascends(keys)):
            self._ascending = False
            self._hash_earlier()
        if not self._ascending:
            self._hashes.add(ids)
        self._add(lines, len(ids), self._ids.add(_encode_ids(ids)))

    def add_distinct(self, lines: bytes, count: int) -> None:
        """
        Append encoded items whose ids are known to come only once.

        :param lines: the items, each followed by a line break.
        :param count: how many.
        """
        self._add(lines, count, (0, 0))

    @property
    def sendable(self) -> int:
        """Number of items that are not superseded."""
        return self.count - len(self._superseded)

    @property
    def sendable_bytes(self) -> int:
        """Bytes of the items that are not superseded, including a separator after each."""
        return self._items.size - self._superseded_bytes

    def find_superseded(self) -> int:
        """
        Find the items whose id comes again later; they will not be sent. Returns how many.

        Memory grows with the number of ids that come more than once, not with the number of items.
        """
        if self._ascending or not (twice := self._hashes.seen_twice()):
            return 0
        last: dict[str, tuple[int, int]] = {}
        first = 0
        for block, hashes in self._blocks_with_hashes():
            if not twice.isdisjoint(hashes):
                lines, ids = self._lines(block), self._ids_in(block)
                for place, hashed in enumerate(hashes):
                    if hashed in twice:
                        record_id = ids[place]
                        if record_id in last:
                            index, size = last[record_id]
                            self._superseded.append(index)
                            self._superseded_bytes += size
                        last[record_id] = first + place, len(lines[place]) + 1
            first += block.items
        self._superseded.sort()
        return len(self._superseded)

    @property
    def superseded(self) -> Sequence[int]:
        """The items (from 0) that ``find_superseded`` has found."""
        return self._superseded

    def only(self, items: Iterator[int]) -> Spool:
        """
        Make a spool of some of the items; this one is closed.

        :param items: from 0, in order.
        """
        some = Spool(self.destination)
        lines = self.items(items)
        while taken := list(islice(lines, _ITEMS_PER_WRITE)):
            some.add_distinct(b"\n".join(taken) + b"\n", len(taken))
        self.close()
        return some

    def items(self, items: Iterator[int]) -> Iterator[bytes]:
        """
        Yield some of the items.

        :param items: from 0, in order.
        """
        wanted, first = next(items, None), 0
        for block in self._blocks:
            after = first + block.items
            if wanted is not None and wanted < after:
                lines = self._lines(block)
                while wanted is not None and wanted < after:
                    yield lines[wanted - first]
                    wanted = next(items, None)
            first = after

    def batches(self, max_bytes: int, max_records: int | None, first: int = 1) -> Iterator[Batch]:
        """
        Split the items that are not superseded into batches, in order, each as full as the limits allow.

        :param max_bytes: largest body; every item alone must fit (``item + form.overhead``).
        :param max_records: most items in one batch, None for as many as fit.
        :param first: number of the first batch.
        """
        overhead = self.destination.form.overhead
        room = max_bytes - overhead + 1
        max_items = max_records or self.count
        number, records, size = first, 0, 0
        ranges: list[tuple[int, int]] = []
        for run in self._runs():
            cuts: Iterator[_Block] = iter((run,))
            if size + run.length > room or records + run.items > max_items:  # only part of the block may fit
                cuts = self._single(run)
            for cut in cuts:
                if records and (size + cut.length > room or records + cut.items > max_items):
                    yield Batch(number, records, overhead + size - 1, self.destination, tuple(ranges), self)
                    number, records, size, ranges = number + 1, 0, 0, []
                _extend(ranges, cut)
                records += cut.items
                size += cut.length
        if records:
            yield Batch(number, records, overhead + size - 1, self.destination, tuple(ranges), self)

    def subset(self, batch: Batch, number: int, ids: Container[str]) -> Batch:
        """
        Make a batch of some of the items of another.

        :param number: of the new batch.
        :param ids: of the items to take.
        :raises LookupError: none of the batch's items is among them; an empty request is never sent.
        """
        items = (item for offset, length in batch.ranges for item in self._single(_Block(offset, length, 0)))
        taken = [item for item, record_id in zip(items, batch.ids(), strict=True) if record_id in ids]
        if not taken:
            raise LookupError("none of the items is in the batch")
        return self._batch(taken, number)

    def halves(self, batch: Batch, number: int) -> tuple[Batch, Batch]:
        """
        Split a batch of at least two items; the first half keeps its number.

        :param number: of the second half.
        """
        items = [item for offset, length in batch.ranges for item in self._single(_Block(offset, length, 0))]
        middle = len(items) // 2
        first, second = (
            self._batch(some, which) for some, which in ((items[:middle], batch.number), (items[middle:], number))
        )
        return first, second

    def all_blocks(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield ids and items of what ``add`` took, superseded ones too, about a thousand at a time."""
        return ((self._ids_in(block), self._lines(block)) for block in self._blocks)

    def blocks(self) -> Iterator[list[bytes]]:
        """Yield the items that are not superseded, about a thousand at a time."""
        skipped = iter(self._superseded)
        skip = next(skipped, None)
        first = 0
        for block in self._blocks:
            lines = self._lines(block)
            out = set()
            while skip is not None and skip < first + block.items:
                out.add(skip - first)
                skip = next(skipped, None)
            first += block.items
            yield [line for place, line in enumerate(lines) if place not in out] if out else lines

    def ids(self, ranges: Iterable[tuple[int, int]]) -> list[str]:
        """Return the ids of the items in some ranges: those of whole blocks from their file, others from the items."""
        ids: list[str] = []
        for offset, length in ranges:
            end = offset + length
            number = bisect_right(self._blocks, offset, key=attrgetter("offset")) - 1
            while offset < end:
                block = self._blocks[number]
                after = min(end, block.offset + block.length)
                if block.ids[1] and after - offset == block.length:
                    ids += self._ids_in(block)
                else:
                    items = self.read(offset, after - offset - 1).replace(b"\n", b",")
                    form = self.destination.form
                    ids += ids_of(form.prefix + items + form.suffix, self.destination.endpoint)
                offset, number = after, number + 1
        return ids

    def read(self, offset: int, length: int) -> bytes:
        """Read from the items' file; safe to call from several threads."""
        return self._items.read(offset, length)

    def close(self) -> None:
        """Free the disk space."""
        for file in (self._items, self._ids, self._hashes):
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add(self, lines: bytes, count: int, ids: tuple[int, int]) -> None:
        block = _Block(*self._items.add(lines), count, ids)
        if self._blocks:
            last = self._blocks[-1]
            is_small = last.items + count <= _ITEMS_PER_WRITE and last.length + len(lines) <= _BYTES_PER_BLOCK
            if is_small and bool(last.ids[1]) == bool(ids[1]):
                of_both = last.ids[0], last.ids[1] + ids[1]
                block = _Block(last.offset, last.length + len(lines), last.items + count, of_both)
                self._blocks.pop()
        self._blocks.append(block)
        self.count += count

    def _batch(self, items: Sequence[_Block], number: int) -> Batch:
        ranges: list[tuple[int, int]] = []
        for item in items:
            _extend(ranges, item)
        length = self.destination.form.overhead + sum(item.length for item in items) - 1
        return Batch(number, len(items), length, self.destination, tuple(ranges), self)

    def _ascends(self, keys: Sequence[Any]) -> bool:
        try:
            ascends = (self._last is None or self._last < keys[0]) and all(map(lt, keys, islice(keys, 1, None)))
        except TypeError:
            return False
        self._last = keys[-1]
        return bool(ascends)

    def _hash_earlier(self) -> None:
        """Add the hashes that were not needed while the ids ascended."""
        for block in self._blocks:
            self._hashes.add(self._ids_in(block))

    def _ids_in(self, block: _Block) -> list[str]:
        return _decode_ids(self._ids.read(*block.ids))

    def _lines(self, block: _Block) -> list[bytes]:
        return self.read(block.offset, block.length).split(b"\n")[:-1]

    def _single(self, block: _Block) -> Iterator[_Block]:
        offset = block.offset
        for line in self._lines(block):
            yield _Block(offset, len(line) + 1, 1)
            offset += len(line) + 1

    def _runs(self) -> Iterator[_Block]:
        """Yield the blocks, split where items are superseded."""
        skipped = iter(self._superseded)
        skip = next(skipped, None)
        first = 0
        for block in self._blocks:
            after = first + block.items
            if skip is None or skip >= after:
                yield block
            else:
                for place, item in enumerate(self._single(block), start=first):
                    if place == skip:
                        skip = next(skipped, None)
                    else:
                        yield item
            first = after

    def _blocks_with_hashes(self) -> Iterator[tuple[_Block, array[int]]]:
        offset = 0
        for block in self._blocks:
            hashes = self._hashes.read(offset, block.items)
            offset += block.items
            yield block, hashes


def _extend(ranges: list[tuple[int, int]], block: _Block) -> None:
    """Add a block's range, merged with the last one if they are adjacent."""
    if ranges and sum(ranges[-1]) == block.offset:
        ranges[-1] = (ranges[-1][0], ranges[-1][1] + block.length)
    else:
        ranges.append((block.offset, block.length))
