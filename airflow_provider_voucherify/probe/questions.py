"""All questions of the probe."""

from __future__ import annotations

from airflow_provider_voucherify.probe import project_questions, records_questions

QUESTIONS = (*records_questions.QUESTIONS, *project_questions.QUESTIONS)
