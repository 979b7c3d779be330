"""
Whether Voucherify has what was sent, seen by reading it back, and not by what its answers say.

It is also what tells whether bulk updates merge or replace: what a record had before and lost is not looked at, what
was sent and is not there is a difference.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from airflow_provider_voucherify.models.endpoints import BulkEndpoint
from airflow_provider_voucherify.models.errors import VoucherifyError, VoucherifyNotFoundError
from airflow_provider_voucherify.sync.batches.bodies import ids_of, records_of
from airflow_provider_voucherify.sync.comparison.differences import Differences, by_field
from airflow_provider_voucherify.sync.comparison.export_columns import METADATA, Path
from airflow_provider_voucherify.sync.comparison.found_records import Difference, FoundRecords
from airflow_provider_voucherify.sync.comparison.values import differing_members
from airflow_provider_voucherify.sync.rows.encoding import encode_json
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.outcome import ReadBackOutcome
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.text import counted

_SAMPLES = 1_000

MAX_MEMBERS = 200
"""Members of metadata that an export is asked for one by one; of more all of it."""


class Verification:
    """
    What reading back has shown. Listens to settled batches; ``finish`` after the last one.

    Records that failed are left out: that Voucherify does not have them is known. Of a batch of which it is not known
    what was sent nothing can be verified. A record that a retry has sent again is looked at once, in the later batch.

    :param differences: gets the records that differ or are missing.
    :ivar error: why reading back has failed; the outcomes are kept first, and then it is raised.
    :param ledger: learns which records Voucherify has been seen to have, and how others differ; None if there is none.
    """

    def __init__(self, differences: Differences, ledger: Ledger | None) -> None:
        self.differences = differences
        self.verified = self.differing = self.missing = self.unknown = 0
        self.error: VoucherifyError | None = None
        self._ledger = ledger
        self._waiting: list[tuple[Settled, set[str]]] = []

    def add(self, settled: Settled) -> None:
        """Look at one batch, unless reading back has failed."""
        ids, failed = settled.whole.answers.keys(), _failed(settled)
        for _, only_there in self._waiting:
            only_there.difference_update(ids)
        if settled.body is None or settled.endpoint is None:
            self.unknown += settled.outcome.records
        elif len(failed) < settled.whole.records - settled.outcome.records:
            # The report that named those sent again is gone: they are known once the later batches are.
            self._waiting.append((settled, set(ids)))
        else:
            self._look_at(settled, failed)

    def finish(self) -> None:
        """Look at what is left."""
        for settled, only_there in self._waiting:
            self._look_at(settled, _failed(settled) | (settled.whole.answers.keys() - only_there))

    def warnings(self) -> Iterator[str]:
        """Say what could not be verified."""
        if self.unknown:
            yield f"{counted(self.unknown, 'record')} could not be verified, since it is not known what was sent"

    def _look_at(self, settled: Settled, left_out: frozenset[str]) -> None:
        if self.error is None and settled.body is not None and settled.endpoint is not None:
            with self._noting_errors():
                self._add(settled.body(), settled.endpoint, left_out)

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except VoucherifyError as error:
            self.error = error

    def counts(self) -> dict[str, int]:
        """Return the members of a summary."""
        return {"verified": self.verified, "differing": self.differing, "missing": self.missing}

    def close(self) -> None:
        """Give the disk space back."""
        self.differences.close()

    def _add(self, body: bytes, endpoint: BulkEndpoint, left_out: frozenset[str]) -> None:
        raise NotImplementedError

    def _note(self, record_id: str, found: Sequence[Difference] | None) -> None:
        """Count a record: None if it is missing, and else the fields that differ."""
        if found is not None and not found:
            self.verified += 1
            return
        outcome: ReadBackOutcome = "missing" if found is None else "differing"
        if outcome == "missing":
            self.missing += 1
        else:
            self.differing += 1
        fields = [one for one in found or () if one is not _NOT_LOOKED_AT]
        self.differences.add(record_id, outcome, fields)
        if self._ledger is not None:
            self._ledger.read_back.note(record_id, outcome, by_field(fields))


class VerificationOfAll(Verification):
    """
    Reads back all records by one export.

    :param bodies: gives all that was sent, from the first batch on; called once.
    :param fetch: fills in what Voucherify has.
    """

    def __init__(
        self,
        differences: Differences,
        ledger: Ledger | None,
        bodies: Callable[[], Iterator[tuple[bytes, BulkEndpoint]]],
        fetch: Callable[[FoundRecords], None],
    ) -> None:
        super().__init__(differences, ledger)
        self._bodies, self._fetch = bodies, fetch
        self._found: FoundRecords | None = None

    def warnings(self) -> Iterator[str]:
        """Say what could not be verified."""
        yield from super().warnings()
        if self._found is not None and self._found.untold:
            untold = ", ".join(self._found.untold)
            yield f"the export does not tell what Voucherify has of {untold}, which counts as different"

    def close(self) -> None:
        """Give the disk space back."""
        super().close()
        if self._found is not None:
            self._found.close()

    def _add(self, body: bytes, endpoint: BulkEndpoint, left_out: frozenset[str]) -> None:
        found = self._read(endpoint.key)
        ids, items = ids_of(body, endpoint), items_of(body, endpoint)
        comparisons = found.compare(ids, items)
        confirmed: dict[bool, list[str]] = {True: [], False: []}
        for record_id, item, comparison in zip(ids, items, comparisons, strict=True):
            if record_id in left_out:
                continue
            confirmed[comparison == "same"].append(record_id)
            if comparison == "different":
                kept = found.differences(record_id, item) if self.differences.has_room else [_NOT_LOOKED_AT]
                self._note(record_id, kept)
            else:
                self._note(record_id, [] if comparison == "same" else None)
        if self._ledger is not None:
            self._ledger.read_back.note_verified(confirmed[True], confirmed[False])

    def _read(self, key: str) -> FoundRecords:
        if self._found is None:
            self._found = FoundRecords(key, *_paths_and_samples(self._bodies()))
            self._fetch(self._found)
        return self._found


class VerificationOfSome(Verification):
    """
    Reads back a random sample of the records one by one, as JSON: unlike an export that shows types, and at once.

    :param size: of the sample.
    :param get: returns a record as the API shows it, given its id; raises ``VoucherifyNotFoundError``.
    """

    def __init__(
        self,
        differences: Differences,
        ledger: Ledger | None,
        size: int,
        get: Callable[[str], Mapping[str, Any]],
    ) -> None:
        super().__init__(differences, ledger)
        self._size, self._get = size, get
        self._seen = 0
        self._sample: list[tuple[str, Mapping[str, Any]]] = []

    def finish(self) -> None:
        """Read the sample."""
        super().finish()
        with self._noting_errors():
            self._read_sample()

    def _read_sample(self) -> None:
        confirmed: dict[bool, list[str]] = {True: [], False: []}
        for record_id, record in self._sample:
            differing: list[Difference] | None
            try:
                stored = self._get(record_id)
            except VoucherifyNotFoundError:
                differing = None
            else:
                differing = [
                    Difference(".".join(path), sent, None if found is None else encode_json(found).decode())
                    for path, sent, found in differing_members(record, stored)
                ]
            confirmed[differing == []].append(record_id)
            self._note(record_id, differing)
        if self._ledger is not None:
            self._ledger.read_back.note_verified(confirmed[True], confirmed[False])

    def _add(self, body: bytes, endpoint: BulkEndpoint, left_out: frozenset[str]) -> None:
        for record_id, record in records_of(body, endpoint):
            if record_id in left_out:
                continue
            self._seen += 1
            if len(self._sample) < self._size:
                self._sample.append((record_id, record))
            elif (place := random.randrange(self._seen)) < self._size:  # noqa: S311
                self._sample[place] = record_id, record


_NOT_LOOKED_AT = Difference("", None, None)


def items_of(body: bytes, endpoint: BulkEndpoint) -> list[bytes]:
    """Return the JSON of each record of a body; each has the one metadata object, if they share it."""
    if endpoint.ids_field is None:
        return [bytes(item) for item in msgspec.json.decode(body, type=list[msgspec.Raw])]
    return [encode_json(record) for _, record in records_of(body, endpoint)]


def _failed(settled: Settled) -> frozenset[str]:
    outcomes = settled.whole.verdicts
    return frozenset(one for one, said in settled.whole.answers.items() if outcomes.get(said) == "failed")


def _paths_and_samples(bodies: Iterable[tuple[bytes, BulkEndpoint]]) -> tuple[list[Path], list[bytes]]:
    """Return where records have values, and some of the records."""
    paths: dict[Path, None] = {}
    samples: list[bytes] = []
    for body, endpoint in bodies:
        samples = samples or items_of(body, endpoint)[:_SAMPLES]
        for _, record in records_of(body, endpoint):
            for name, value in record.items():
                if name == endpoint.key:
                    continue
                if isinstance(value, dict) and name in ("metadata", "address"):
                    paths.update(((name, member), None) for member in value)
                else:
                    paths[(name,)] = None
    members = [path for path in paths if path[0] == "metadata"]
    if len(members) > MAX_MEMBERS:
        return [*(path for path in paths if path[0] != "metadata"), METADATA], samples
    return list(paths), samples
