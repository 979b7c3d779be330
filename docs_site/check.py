"""
Checks a built site: a browser that shows it asks no other host for anything.

    python -m docs_site.check build/site
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "use": "href"}
ELSEWHERE = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^'\")\s]*", re.IGNORECASE)


class _Fetched(HTMLParser):
    """Collects the addresses that a browser fetches by itself for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address of a script, a picture, a style sheet and the like."""
        if (address := dict(attrs).get(FETCHED.get(tag, ""))) is not None:
            self.addresses.append(address)


def fetched_from_elsewhere(file: Path) -> list[str]:
    """Return what a file makes a browser fetch from another host."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".css":
        return IN_STYLES.findall(text)
    page = _Fetched()
    page.feed(text)
    return [address for address in page.addresses if ELSEWHERE.match(address)] + IN_STYLES.findall(text)


def main(folder: str) -> None:
    """Exit with a message where a page or a style sheet needs another host."""
    files = [*Path(folder).rglob("*.html"), *Path(folder).rglob("*.css")]
    if not any(file.suffix == ".html" for file in files):
        sys.exit(f"there is no site in {folder}")
    found = [f"{file}: {address}" for file in files for address in fetched_from_elsewhere(file)]
    if found:
        sys.exit("\n".join(["these are fetched from another host:", *found]))
    print(f"{folder}: {len(files)} pages and style sheets, and nothing that another host would be asked for")


if __name__ == "__main__":
    main(sys.argv[1])
