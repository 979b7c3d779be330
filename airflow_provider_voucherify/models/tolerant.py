"""Types for fields of answers: a value of another type than documented counts as absent."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator


def text_or_none(value: object) -> str | None:
    """Return a text, None for anything else."""
    return value if isinstance(value, str) else None


def word_or_none(value: object) -> str | None:
    """Return a text that is safe to log, None for one that could add lines or colours to a log."""
    return value if isinstance(value, str) and value.isprintable() else None


def count_or_none(value: object) -> int | None:
    """Return a whole number of at least 0, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def flag_or_none(value: object) -> bool | None:
    """Return a truth value, None for anything else."""
    return value if isinstance(value, bool) else None


Text = Annotated[str | None, BeforeValidator(text_or_none)]
Word = Annotated[str | None, BeforeValidator(word_or_none)]
Flag = Annotated[bool | None, BeforeValidator(flag_or_none)]
Count = Annotated[int | None, BeforeValidator(count_or_none)]
