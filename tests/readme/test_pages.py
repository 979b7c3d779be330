"""The pages in docs: all are in the site's navigation, all links lead somewhere, and all code can be loaded."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from dags import dag_bag
from installed import AIRFLOW
from readme_file import FENCED, ROOT

from airflow_provider_voucherify.client.settings import ConnectionExtra
from airflow_provider_voucherify.connection.form import EXTRA_FIELDS, LABELS
from airflow_provider_voucherify.local_voucherify.__main__ import _parser as local_voucherify_parser
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.export import VoucherifyExportOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.probe.command import parser as probe_parser
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from docs_site import hooks
from docs_site.hooks import WRITTEN_BY_RUNS, without

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FORGE = [ROOT / name for name in hooks.FORGE]
TEXTS = [ROOT / "README.md", *FORGE, *PAGES]
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
NAMED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def prose(file: Path) -> str:
    """Return a page without its code blocks."""
    return FENCED.sub("", file.read_text(encoding="utf-8"))


def in_navigation(entries: Any) -> Iterator[str]:
    """Give the pages of a part of the navigation."""
    if isinstance(entries, str):
        yield entries
    for entry in entries.values() if isinstance(entries, dict) else entries if isinstance(entries, list) else ():
        yield from in_navigation(entry)


@cache
def anchors(file: Path) -> set[str]:
    """Return the anchors of a page's headings that are the same on the site (MkDocs) and on a forge."""
    headings = [
        re.sub(r"`|\[([^]]*)\]\([^)]*\)", r"\1", h) for h in re.findall(r"^#+ (.+)$", prose(file), re.MULTILINE)
    ]
    return {_as_mkdocs_does(heading) for heading in headings} & {_as_forges_do(heading) for heading in headings}


def _as_mkdocs_does(heading: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


def _as_forges_do(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links() -> Iterator[tuple[Path, str]]:
    """Give every relative link with the page that it is on."""
    for file in TEXTS:
        for link in LINK.findall(prose(file)):
            if not link.startswith(("https:", "http:")):
                yield file, link


def code(language: str) -> Iterator[Any]:
    """Give the code blocks of the pages in a language, as parameters of a test."""
    for file in [*FORGE, *PAGES]:
        for number, (_, found, text) in enumerate(FENCED.findall(file.read_text(encoding="utf-8")), start=1):
            if found == language:
                yield pytest.param(text, id=f"{file.stem}-{number}")


def test_the_navigation_has_every_page_once() -> None:
    listed = sorted(in_navigation(SITE["nav"]))
    there = sorted([*(page.name for page in PAGES), *map(hooks.page_path, hooks.FORGE)])

    assert listed == sorted({*there, *WRITTEN_BY_RUNS})
    assert sorted(in_navigation(without(set(listed) - set(there), SITE["nav"]))) == there


@pytest.mark.parametrize(("file", "link"), list(links()), ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
def test_a_link_leads_somewhere(file: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (file.parent / path).resolve() if path else file

    assert target.is_relative_to(ROOT)
    assert target.is_file() or (target.is_dir() and file.parent == ROOT), "the site can show files alone"
    assert not anchor or anchor in anchors(target)


def test_there_are_links_and_names() -> None:
    assert len(list(links())) > 50
    assert len(NAMED.findall("".join(prose(page) for page in PAGES))) > 5


@pytest.mark.parametrize("name", NAMED.findall("".join(prose(page) for page in PAGES)))
def test_what_a_reference_shows_is_there(name: str) -> None:
    from importlib import import_module

    module, _, attribute = name.rpartition(".")
    assert getattr(import_module(module), attribute).__doc__


@pytest.mark.parametrize("text", list(code("python")))
def test_python_can_be_loaded(text: str, tmp_path: Path) -> None:
    if "DAG(" not in text:
        compile(text, "page", "exec")
        return
    if "airflow.sdk" in text and AIRFLOW < (3, 3):
        pytest.skip("the pages are written for the newest Airflow")
    (tmp_path / "page.py").write_text(text, encoding="utf-8")
    bag = dag_bag(tmp_path / "page.py")
    assert bag.import_errors == {}
    assert bag.dags


def commands() -> Iterator[Any]:
    """Give the commands of the pages' shell blocks, each of which may go over several lines."""
    for block in code("bash"):
        command = ""
        for line in block.values[0].replace("\\\n", " ").splitlines():
            command += line
            try:
                words = shlex.split(command, comments=True)
            except ValueError:  # a quotation that goes on in the next line
                command += "\n"
                continue
            if words:
                yield pytest.param(words, id=f"{block.id}: {command}")
            command = ""


@pytest.mark.parametrize("words", list(commands()))
def test_a_command_is_there(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command, *arguments = words
    if command == "airflow":
        if arguments[0] == "voucherify" and AIRFLOW < (3, 2):
            pytest.skip("providers have no commands of Airflow's before 3.2")
        from airflow.cli.cli_parser import get_parser

        get_parser().parse_args([argument.replace("$PWD", "/tmp") for argument in arguments])
    elif arguments[:2] == ["-m", "airflow_provider_voucherify.local_voucherify"]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "schemas.json").write_text("{}")
        local_voucherify_parser().parse_args(arguments[2:])
    elif arguments[:2] == ["-m", "airflow_provider_voucherify.probe"]:
        probe_parser().parse_args(arguments[2:])
    elif command == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert [one for one in arguments if "=" not in one and not re.search(rf"^{one}:", makefile, re.MULTILINE)] == []
    else:
        assert command in ("export", "mkdir", "cd", "python", "python3.12", ".", "pip", ".venv/bin/python", "sqlite3")


@pytest.mark.parametrize(
    ("page", "after", "fields"),
    [
        ("operators.md", "### Parameters", VoucherifyBulkUpdateOperator.template_fields),
        ("operators.md", '"import_products"', VoucherifyImportCsvOperator.template_fields),
        ("exports.md", "## Parameters", VoucherifyExportOperator.template_fields),
        ("sensor.md", "## Parameters", VoucherifyAsyncActionSensor.template_fields),
    ],
)
def test_the_fields_for_templates_are_named(page: str, after: str, fields: tuple[str, ...]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8").partition(after)[2]
    sentence = text.partition("Templated fields: ")[2].partition(".\n")[0].partition(". ")[0]

    named = [name for name in re.findall(r"`([^`]+)`", sentence) if name != ".sql"]
    assert sorted(named) == sorted(fields)


def test_the_metadata_operator_has_one_more() -> None:
    more = set(VoucherifyBulkMetadataOperator.template_fields) - set(VoucherifyBulkUpdateOperator.template_fields)

    assert more == {"metadata"}


def test_the_members_of_the_summary_are_named() -> None:
    table = (
        (DOCS / "operators.md").read_text(encoding="utf-8").partition("## The summary")[2].partition("| member |")[2]
    )
    names = re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE)

    assert sorted(names) == sorted(SyncSummary.model_fields)


def test_the_fields_of_the_connection_are_named() -> None:
    table = (DOCS / "connection.md").read_text(encoding="utf-8").partition("## Fields")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines() if line.startswith("| ")]
    extras = {name.split("`")[1]: label for label, name in rows if name.startswith("extra ")}
    standard = {name.strip("`"): label for label, name in rows if not name.startswith("extra ")}

    assert extras == {name: EXTRA_FIELDS[name].label for name in ConnectionExtra.model_fields}
    assert standard == {"in a connection": "field of the form", "schema": "–", "---": "---", **LABELS}


def test_every_error_is_named() -> None:
    from airflow_provider_voucherify import exceptions

    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    roots = {"VoucherifyError", "VoucherifyApiError", "VoucherifyTransportError"}

    assert sorted(rows) == sorted(set(exceptions.__all__) - roots)
