"""The probe gives the right answer to each question, whichever reading of it the project has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.probe.questions import QUESTIONS
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


def test_the_matrix_has_every_reading_of_every_question() -> None:
    played = {(case.question, case.reading) for case in CASES}
    named = {(question.name, reading) for question in QUESTIONS for reading in question.readings}

    assert played | CANNOT_BE_PLAYED == named
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS) > 30
