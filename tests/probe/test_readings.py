"""The probe gives the right answer to each question, whichever reading of it the project has."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.probe.questions import QUESTIONS
from tests.probe import readings_matrix as matrix
from tests.probe.probe_runs import run_probe
from tests.probe.readings_matrix import Case, cases

CASES = list(cases())
CANNOT_BE_PLAYED = {("Where is the report?", "download_host")}
"""A host of the vendor's own: the local Voucherify has none; ``test_answers.py`` has it."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.question} {case.reading}")
def test_each_reading_is_recognised(case: Case, open_shop: Callable[..., LocalVoucherify], tmp_path: Path) -> None:
    server = open_shop(**case.options)
    flags = ["--yes"]
    if case.elsewhere is not None:
        flags += ["--other-region", open_shop(**case.elsewhere).base_url]

    probed = run_probe(server, tmp_path / "observed.json", *flags, **case.extra)

    assert probed.readings[case.question] == case.reading, probed.evidence[case.question]
    assert probed.content["calls"] <= 80
    assert (len(server.customers), len(server.products), len(server.vouchers)) == (0, 0, 0)


MIXED = [
    case
    for case in CASES
    if case.elsewhere is None and not case.extra and not case.options.keys() & {"metadata_mode", "result_shape"}
]
RIGHT_TOO = {
    (matrix.NULL_MEMBER, "kept"): "removed",  # if the update replaces metadata
    (matrix.NULL_MEMBER, "failed"): "refused",  # if a wrong record refuses its request
    (matrix.NULL_METADATA, "failed"): "refused",
    (matrix.COMPRESSED, "misread"): "refused",  # if it is taken for an empty list, and that is refused
}


def mixture(seed: int) -> list[Case]:
    """Choose a reading of each question at random, but for those whose options contradict the others'."""
    chosen: list[Case] = []
    options: dict[str, Any] = {}
    replacing: frozenset[str] = frozenset()
    for case in random.Random(seed).sample(MIXED, len(MIXED)):
        own = dict(case.options)
        more = own.pop("metadata_replaced_by", frozenset())
        known = {one.question for one in chosen}
        if case.question not in known and all(options.get(name, value) == value for name, value in own.items()):
            chosen.append(replace(case, options=own))
            options |= own
            replacing |= more
    return [replace(case, options={**options, "metadata_replaced_by": replacing}) for case in chosen]


@pytest.mark.parametrize("seed", range(6))
def test_no_reading_hides_behind_another(open_shop: Callable[..., LocalVoucherify], tmp_path: Path, seed: int) -> None:
    """Of many readings at once each is recognised, or not answered; none is mistaken."""
    chosen = mixture(seed)
    server = open_shop(**chosen[0].options)

    probed = run_probe(server, tmp_path / "observed.json", "--yes")

    expected = {case.question: {case.reading, RIGHT_TOO.get((case.question, case.reading))} for case in chosen}
    mistaken = {
        question: (probed.readings[question], readings, probed.evidence[question])
        for question, readings in expected.items()
        if probed.readings[question] not in readings | {"unknown", "not asked"}
    }
    assert len(chosen) > 15
    assert mistaken == {}
    assert (len(server.customers), len(server.products), len(server.vouchers)) == (0, 0, 0)


def test_the_matrix_has_every_reading_of_every_question() -> None:
    played = {(case.question, case.reading) for case in CASES}
    named = {(question.name, reading) for question in QUESTIONS for reading in question.readings}

    assert played | CANNOT_BE_PLAYED == named
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS) > 30
