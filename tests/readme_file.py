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


def blocks_of(text: str) -> list[Block]:
    """Return the code blocks of a page."""
    return [Block(language, code) for _, language, code in FENCED.findall(text)]


def page(name: str) -> str:
    """Return the text of a page: of ``docs``, or (in capitals) one that lies beside it."""
    folder = ROOT if name.isupper() else ROOT / "docs"
    return (folder / f"{name}.md").read_text(encoding="utf-8")


def first_column(text: str, header: str) -> list[str]:
    """Return the names in backquotes in the first column of the table that follows a header."""
    table = text.partition(header)[2].partition("\n|")[2].partition("\n\n")[0]
    cells = [line.split("|")[0] for line in table.replace("\n|", "\n").splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
