"""What makes a site of docs: pages of files beside it, and a check that no other host is needed. Nothing is built."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from docs_site import check, hooks


def test_a_file_outside_becomes_a_page() -> None:
    page = hooks.page_of("dags_examples/nightly_changes.py")

    assert "# dags_examples/nightly_changes.py\n\n````python\n" in page
    assert 'DAG(\n    "nightly_changes"' in page


def test_links_to_such_files_lead_to_their_pages_and_others_are_left_alone() -> None:
    text = "[a](../dags_examples/nightly_changes.py) [b](sensor.md#parameters) [c](https://example.com/../x)"

    assert led(text, "operators.md") == "[a](source/dags_examples/nightly_changes.py.md) " + text.partition(" ")[2]
    assert led("[a](../CHANGELOG.md)", "index.md") == "[a](source/CHANGELOG.md)"


def test_the_pages_that_a_forge_looks_for_link_into_the_docs() -> None:
    page = hooks.page_of("SECURITY.md")

    assert "[changelog](CHANGELOG.md)" in page
    assert "[Security](../security.md)" in page
    assert led(page, "source/SECURITY.md") == page


def led(text: str, page: str) -> str:
    """Return a page's text as the site has it."""
    shown: Any = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    return hooks.on_page_markdown(text, shown, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.html", '<script src="https://example.com/a.js"></script>', ["https://example.com/a.js"]),
        ("a.html", '<link rel="preconnect" href="//fonts.example.com">', ["//fonts.example.com"]),
        ("a.html", "<style>@import 'https://example.com/a.css'</style>", ["@import 'https://example.com/a.css"]),
        ("a.css", "a { background: url(https://example.com/a.png) }", ["url(https://example.com/a.png"]),
        ("a.html", '<a href="https://example.com">x</a><script src="a.js"></script><img src="data:,x">', []),
        ("a.css", "a { background: url(a.png) }", []),
    ],
)
def test_what_is_fetched_from_elsewhere_is_found(tmp_path: Path, name: str, text: str, found: list[str]) -> None:
    (tmp_path / name).write_text(text)

    assert check.fetched_from_elsewhere(tmp_path / name) == found


def test_a_folder_without_a_site_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no site"):
        check.main(str(tmp_path))
