"""
Hooks of MkDocs: files outside ``docs`` that pages link to become pages of the site.

On the forge ``../dags_examples/nightly_changes.py`` leads to the file itself. The site has no such file, so it gets a
page that shows it, and the link leads there. So do the Markdown files that a forge looks for beside ``docs``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "source"
LINK_OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)\)")
LINK_INTO_DOCS = re.compile(r"\]\(docs/([^)\s]+)\)")
FORGE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
WRITTEN_BY_RUNS = ("load.md",)
"""Pages that a long run writes (``make load``); until it has, the navigation does without them."""

LANGUAGES = {".py": "python", ".toml": "toml", ".yml": "yaml"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take pages that are not written yet out of the navigation."""
    folder = Path(config.docs_dir)
    config.nav = without({name for name in WRITTEN_BY_RUNS if not (folder / name).exists()}, config.nav)
    return config


def without(pages: set[str], navigation: Any) -> Any:
    """Return a part of the navigation without some pages."""
    if isinstance(navigation, list):
        return [kept for entry in navigation if (kept := without(pages, entry)) not in (None, {})]
    if isinstance(navigation, dict):
        return {title: kept for title, entry in navigation.items() if (kept := without(pages, entry)) is not None}
    return None if navigation in pages else navigation


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside ``docs`` that a page links to, and for those that a forge looks for."""
    from mkdocs.structure.files import File

    pages = [file.content_string for file in files.documentation_pages()]
    for path in sorted({path for page in pages for path in LINK_OUTSIDE.findall(page)}.union(FORGE)):
        files.append(File.generated(config, page_path(path), content=page_of(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to such files lead to their pages."""
    if page.file.src_uri.startswith(f"{FOLDER}/"):
        return markdown
    return LINK_OUTSIDE.sub(lambda link: f"]({page_path(link[1])})", markdown)


def page_path(path: str) -> str:
    """Return where the page of a file is; ``path`` is relative to the repository."""
    return f"{FOLDER}/{path}" if path.endswith(".md") else f"{FOLDER}/{path}.md"


def page_of(path: str) -> str:
    """Return the Markdown of a page that shows a file; ``path`` is relative to the repository."""
    file = ROOT / path
    if file.suffix == ".md":
        return LINK_INTO_DOCS.sub(r"](../\1)", file.read_text(encoding="utf-8"))
    text, language = file.read_text(encoding="utf-8").rstrip("\n"), LANGUAGES.get(file.suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n````{language}\n{text}\n````\n"
