"""The pictures in docs/images: each is shown somewhere, and each that is shown is there and small."""

from __future__ import annotations

import re

import pytest
from readme_file import ROOT

DOCS = ROOT / "docs"
SHOWN = re.findall(r"!\[[^]]+\]\((images/[^)]+)\)", "".join(page.read_text("utf-8") for page in DOCS.glob("*.md")))


def test_each_is_shown() -> None:
    assert sorted(SHOWN) == sorted(f"images/{file.name}" for file in (DOCS / "images").iterdir())


@pytest.mark.parametrize("image", SHOWN)
def test_each_is_a_small_png(image: str) -> None:
    content = (DOCS / image).read_bytes()

    assert content.startswith(b"\x89PNG")
    assert len(content) < 200_000
