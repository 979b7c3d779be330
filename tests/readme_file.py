"""README.md and the pages of the documentation, taken apart into code blocks and tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FENCED = re.compile(r"^(`{3,})(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced code block."""

    language: str
    code: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]


def blocks(language: str) -> list[str]:
    """Return the code of all blocks in a language."""
    return [block.code for block in BLOCKS if block.language == language]


def first_column(header: str) -> list[str]:
    """Return the names in backquotes in the first column of the table that follows a text."""
    table = TEXT.partition(header)[2].partition("\n|")[2].partition("\n\n")[0]
    cells = [line.split("|")[0] for line in table.replace("\n|", "\n").splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
