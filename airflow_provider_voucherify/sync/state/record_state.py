"""What is said of single rows and records: the outcome of a row, and what the last syncs of a record came to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from airflow_provider_voucherify.sync.types.outcome import Outcome
from airflow_provider_voucherify.sync.types.text import counted

MAX_FIELDS = 10
"""Fields that a warning names."""


class RecordState(msgspec.Struct, frozen=True, gc=False):
    """
    What the last syncs of one id came to.

    :param settings: digest of the settings under which its record was made.
    :param digest: of the record, while Voucherify's last answer was that it has it.
    :param failed_digest: of the record that it did not accept last.
    :param attempts: in how many runs it did not accept that one.
    :param outcome: of the last sync that did something about the record.
    :param run: that sync's run.
    :param confirmed_at: when Voucherify last confirmed any record of that id, Unix epoch seconds; None for never.
    :param fields: of which Voucherify has a value of this sync, as a JSON list of paths such as ``metadata.tier``; None
        if that is not known.
    :param not_cleared: those of them of which the source had no value any more; None for none.
    :param failing_since: when its record first failed or was refused of all the times since the last that Voucherify
        confirmed one, Unix epoch seconds; None if the last was not a failure.
    :param content: the JSON that Voucherify confirmed last, where values are kept.
    """

    id: str
    settings: str
    digest: int | None
    failed_digest: int | None
    attempts: int
    outcome: Outcome
    key: str | None
    message: str | None
    run: str
    confirmed_at: float | None
    fields: str | None = None
    not_cleared: str | None = None
    failing_since: float | None = None
    content: str | None = None


StateColumns = Sequence[Sequence[Any]]
"""The states of some records: a column for each field of ``RecordState`` in its order, but for the content."""


@dataclass(frozen=True, slots=True)
class NotCleared:
    """
    Values that Voucherify still has although the source no longer has them, because missing values are not sent.

    :param records: of how many records, by the path of the field, the most frequent first.
    :param columns: name of the column that a field comes from, by its path.
    :param null: the columns whose ``null_policy`` is ``send``.
    """

    records: Mapping[str, int]
    columns: Mapping[str, str]
    null: Collection[str] = ()

    @property
    def values(self) -> int:
        """How many values."""
        return sum(self.records.values())

    def text(self) -> str | None:
        """Say so in words, and what clears them; None if there are none."""
        if not self.records:
            return None
        shown = [f"{path} ({number:,})" for path, number in islice(self.records.items(), MAX_FIELDS)]
        more = len(self.records) - len(shown)
        fields = ", ".join(shown) + (f" and {counted(more, 'more field')}" if more else "")
        in_objects = [path for path in self.records if path.startswith(("metadata.", "address"))]
        clear = {self.columns[path]: "send" for path in in_objects if self.columns[path] not in self.null}
        sent = dict.fromkeys(self.columns[path] for path in in_objects if self.columns[path] in self.null)
        advice = []
        if clear:
            advice.append(f"null_policy={dict(islice(clear.items(), MAX_FIELDS))} sends null for them")
        if sent:
            objects = ", ".join(islice(sent, MAX_FIELDS))
            advice.append(f"a member that {objects} no longer has is cleared if it is there with null")
        if len(in_objects) < len(self.records):
            advice.append("the API takes null in metadata and in the address only")
        if in_objects:
            advice.append("whether metadata and an address keep members that are not sent is not documented")
        return (
            f"Voucherify still has {counted(self.values, 'value')} that the source no longer has, as missing values "
            f"are not sent: {fields}; {', and '.join(advice)}"
        )
