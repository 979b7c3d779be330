"""What a person sees on the page "Voucherify syncs", after syncs of every outcome."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import pytest
from airflow.providers.common.compat.sdk import DAG, Asset
from api_server import api_server, token
from dags import DagRunResult, clear_and_run, run_dag
from installed import AIRFLOW

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.needs_airflow("3.1", "user interfaces of plugins came with it"),
]

HOSTILE = "<img src=x onerror=alert(1)>"
SCHEMAS = {"customer": {"properties": {"tier": {"type": "string"}}, "allow_defined_only": False}}
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"

Visit = Callable[..., "Page"]


def expect(locator: Locator) -> Any:
    """Give Playwright's assertions, which wait for what they assert."""
    from playwright.sync_api import expect

    return expect(locator)


def sync(rows: list[dict[str, Any]], **more: Any) -> VoucherifyBulkUpdateOperator:
    return VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=rows, **more)


def segments(folder: Path, *rows: dict[str, Any], **more: Any) -> tuple[DAG, DagRunResult]:
    """Run a sync with a state in tables, a report folder and an asset."""
    state = {"conn_id": "books", "keep_values": True}
    with DAG("segments", schedule=None) as dag:
        sync(
            [*rows], state=state, report_path=str(folder / "reports"), outlets=[Asset("segments_in_voucherify")], **more
        )
    return dag, run_dag(dag)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run syncs of every outcome, and give the ids of the runs that the tests look at."""
    folder = tmp_path_factory.mktemp("syncs")
    with LocalVoucherify(metadata_schemas=SCHEMAS) as voucherify, patch.dict(os.environ):
        keys = {"login": voucherify.options.app_id, "password": voucherify.options.secret_key}
        connection = {"conn_type": "voucherify", "host": voucherify.base_url, **keys}
        os.environ["AIRFLOW_CONN_VOUCHERIFY_DEFAULT"] = json.dumps(connection)
        os.environ["AIRFLOW_CONN_BOOKS"] = json.dumps({"conn_type": "sqlite", "host": str(folder / "books.db")})
        known = [{"source_id": f"c{number}", "name": "Ann"} for number in range(1, 401)]
        segments(folder, *known)
        every = [
            *known[:300],
            *({**one, "name": "Bea"} for one in known[300:]),
            *({"source_id": f"new{number}"} for number in range(60)),
            *({"source_id": f"odd{number}", "metadata": {"tier": number}} for number in range(25)),
            *({"name": HOSTILE} for _ in range(10)),
            *({"source_id": "new0"} for _ in range(5)),
        ]
        _, of_every_outcome = segments(folder, *every, fail_if={"failed": None})
        dag, failed = segments(folder, {"source_id": "c1", "name": "Cy"}, {"name": HOSTILE})
        clear_and_run(dag, failed)
        early = segments(folder, voucherify_conn_id="is_not_there")[1]
        with DAG("prices", schedule=None) as prices:
            sync([{"source_id": "p1"}], wait_for_completion=False)
        run_dag(prices)
        with DAG("parts", schedule=None) as parts:
            of_parts = [[{"source_id": f"part{number}"}] for number in range(3)] + [[{"name": "?"}]]
            VoucherifyBulkUpdateOperator.partial(task_id="sync", resource="customers").expand(records=of_parts)
        mapped = run_dag(parts)
        named = {"every": of_every_outcome, "failed": failed, "early": early, "mapped": mapped}
        yield {name: run.dag_run.run_id for name, run in named.items()}


@pytest.fixture(scope="module")
def urls(runs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Give two API servers: one whose base URL has a path, and one whose has none."""
    with ExitStack() as stack:
        paths = {"root": "", "below": "/airflow"}
        yield {
            name: stack.enter_context(api_server(tmp_path_factory.mktemp(name), path)) for name, path in paths.items()
        }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "there is no chromium; on Debian: apt-get install chromium"
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, urls: dict[str, str]) -> Iterator[Visit]:
    """
    Give a function that opens the page as somebody.

    In the end no error has appeared in the console, and nothing was asked of another host.
    """
    problems: list[str] = []
    hosts: set[str] = set()
    with ExitStack() as stack:

        def visit(path: str = "", name: str | None = "admin", server: str = "root", **context: Any) -> Page:
            url = urls[server]
            size = {"width": 1200, "height": 900}
            opened = stack.enter_context(closing_context(browser, viewport=context.pop("viewport", size), **context))
            if name is not None:
                opened.add_cookies([{"name": "_token", "value": token(url, name), "url": url}])
            page = opened.new_page()
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
            page.goto(f"{url}/plugin/voucherify_syncs{path}")
            return page

        yield visit
    assert [text for text in problems if not re.search("status of (401|403|404|503)", text)] == []
    assert hosts - {""} <= {urlsplit(url).netloc for url in urls.values()}


@contextmanager
def closing_context(browser: Browser, **options: Any) -> Iterator[Any]:
    context = browser.new_context(locale="en", **options)
    try:
        yield context
    finally:
        context.close()


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Give a function that pictures a page for the documentation, where that is asked for."""

    def picture(page: Page, name: str) -> None:
        if request.config.getoption("screenshots"):
            page.wait_for_timeout(700)
            page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")

    return picture


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


def bar(of: Locator) -> Locator:
    return of.get_by_role("img").first


def of(run: str, **more: str) -> str:
    """Return the query of a page of the sync ``segments``."""
    return "?" + str(httpx.QueryParams({"dag": "segments", "task": "sync", "run": run, **more}))


OF_EVERY_OUTCOME = "100 updated, 60 created, 300 unchanged, 25 failed, 10 refused, 5 superseded"


def test_the_list_has_what_needs_attention_first(visit: Visit, picture: Callable[[Page, str], None]) -> None:
    page = visit()
    expect(page.get_by_text("3 syncs, 2 need attention")).to_be_visible()
    names = [text.partition("\n")[0] for text in page.get_by_role("row").all_inner_texts()[1:]]
    assert [name.split("\t")[0] for name in names][-1] == "prices.sync"
    expect(row(page, "segments.sync")).to_contain_text("failed")
    expect(bar(row(page, "prices.sync"))).to_have_attribute("aria-label", "1 queued")
    mapped = row(page, "parts.sync")
    expect(mapped).to_contain_text("4 mapped")
    expect(bar(mapped)).to_have_attribute("aria-label", "3 created, 1 refused")
    expect(mapped).to_contain_text("1 (25 %)")
    picture(page, "syncs")

    page.get_by_label("needs attention").check()
    expect(row(page, "prices.sync")).to_have_count(0)
    page.get_by_label("Filter by DAG or task").fill("nothing of the kind")
    expect(page.get_by_text("No sync fits the filters.")).to_be_visible()


def test_a_run_of_every_outcome(visit: Visit, runs: dict[str, str], picture: Callable[[Page, str], None]) -> None:
    page = visit(of(runs["every"]))

    expect(page.get_by_role("paragraph").filter(has_text=OF_EVERY_OUTCOME)).to_be_visible()
    reasons = page.get_by_role("table", name="Why rows failed")
    expect(reasons).to_contain_text("metadata_validation_failed")
    expect(reasons).to_contain_text(HOSTILE[:20])
    expect(page.get_by_role("link", name="Asset events of segments_in_voucherify")).to_be_visible()
    expect(page.get_by_role("link", name="Log in Airflow")).to_be_visible()
    expect(page.get_by_text(re.compile('path=".*/reports/failures.jsonl"'))).to_be_visible()
    numbers = page.get_by_role("table", name="Numbers")
    expect(numbers.get_by_role("row").filter(has_text="rows read")).to_contain_text("500")
    expect(numbers).to_contain_text("rows that were not sent, because they cannot be valid.")
    trends = page.get_by_role("img", name=re.compile("metadata_validation_failed: last"))
    expect(trends).to_be_visible()
    picture(page, "sync")

    page.get_by_role("link", name="Asset events of segments_in_voucherify").click()
    expect(page.get_by_text("segments_in_voucherify").first).to_be_visible()


def test_a_night_that_failed_early_and_one_that_was_cleared(visit: Visit, runs: dict[str, str]) -> None:
    page = visit(of(runs["early"]))
    expect(page.get_by_text("The task failed before it knew what became of its rows")).to_be_visible()
    expect(page.get_by_role("table", name="Tries")).to_contain_text("AirflowNotFoundException")

    page.get_by_label("Run:").select_option(runs["failed"])
    tries = page.get_by_role("table", name="Tries").get_by_role("row")
    expect(tries).to_have_count(3 if AIRFLOW >= (3, 2) else 2)  # Airflow 3.1's dag.test() runs no failed task again
    expect(tries.nth(1)).to_contain_text("1 of 2 rows failed or was refused")
    expect(page.get_by_text("clear the task in Airflow")).to_be_visible()


def test_what_happened_to_a_record(visit: Visit, runs: dict[str, str]) -> None:
    page = visit(of(runs["every"]))
    page.get_by_label("Id of a record").fill("c350")
    page.keyboard.press("Enter")

    expect(page.get_by_text(re.compile("^c350: updated; last confirmed"))).to_be_visible()
    lines = page.get_by_role("table", name="Outcomes of c350").get_by_role("row")
    expect(lines).to_have_count(3)
    expect(lines.nth(1)).to_contain_text('"name":"Bea"')
    page.reload()
    expect(page.get_by_label("Id of a record")).to_have_value("c350")
    page.get_by_role("link", name="odd0").click()
    expect(page.get_by_text(re.compile("^odd0: failed; failing since"))).to_be_visible()
    page.get_by_label("Id of a record").fill("nobody")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No sync of this task knows a record nobody.")).to_be_visible()


def test_a_mapped_task_leads_to_its_instances(visit: Visit) -> None:
    page = visit()
    page.get_by_role("link", name="parts.sync").click()
    instances = page.get_by_role("table", name="Mapped task instances").get_by_role("row")
    expect(instances).to_have_count(5)
    expect(instances.nth(1)).to_contain_text("failed")
    instances.nth(1).get_by_role("link").click()
    expect(page.get_by_role("heading", name=re.compile("map index 3"))).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name=re.compile("map index 3"))).to_have_count(0)


def test_a_viewer_of_one_dag_sees_that_one_alone(visit: Visit, runs: dict[str, str]) -> None:
    page = visit(name="viewer")
    expect(page.get_by_text("1 sync, 1 needs attention")).to_be_visible()
    expect(row(page, "prices")).to_have_count(0)

    theirs = visit("?dag=parts&task=sync", name="viewer")
    expect(theirs.get_by_role("alert")).to_contain_text("You have no right to see the XComs of this DAG")


def test_nobody_sees_anything_without_signing_in(visit: Visit, urls: dict[str, str]) -> None:
    page = visit(name=None)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    for path in ("syncs", "sync?dag_id=segments&task_id=sync"):
        assert httpx.get(f"{urls['root']}/voucherify/api/{path}").status_code == 401


def test_a_session_that_has_ended_and_a_run_that_is_gone_are_said(visit: Visit) -> None:
    page = visit(of("no_such_run"))
    expect(page.get_by_role("alert")).to_contain_text("There is no such run of this task any more.")
    page.context.clear_cookies()
    page.get_by_role("link", name="Voucherify syncs", exact=True).first.click()
    expect(page.get_by_role("alert")).to_contain_text("You are not signed in, or your session has ended.")


def test_below_a_path_links_stay_below_it(visit: Visit, urls: dict[str, str], runs: dict[str, str]) -> None:
    page = visit(server="below")
    page.get_by_role("link", name="segments.sync").click()
    expect(page.get_by_role("table", name="Tries")).to_be_visible()
    assert page.url.startswith(f"{urls['below']}/plugin/voucherify_syncs?dag=segments")
    log = page.get_by_role("link", name="Log in Airflow")
    expect(log).to_have_attribute("href", re.compile(f"^{urls['below']}/dags/segments/runs/"))


def test_the_menu_leads_back_to_the_list(visit: Visit) -> None:
    page = visit()
    for _ in range(2):
        page.get_by_role("link", name="segments.sync").click()
        expect(page.get_by_label("Run:")).to_be_visible()
        page.get_by_role("button", name="Browse").click()
        page.get_by_role("menuitem", name="Voucherify syncs").click()
        expect(page.get_by_role("table", name="Syncs")).to_be_visible()


def test_by_keyboard_alone(visit: Visit) -> None:
    page = visit()
    field = page.get_by_label("Filter by DAG or task")
    field.focus()
    page.keyboard.type("segments")
    for _ in range(3):  # the select, the checkbox, the first link
        page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="segments.sync")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Run:")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_on_their_ground(visit: Visit, runs: dict[str, str], scheme: str) -> None:
    page = visit(of(runs["failed"]), color_scheme=scheme)
    expect(page.get_by_role("table", name="Tries")).to_be_visible()

    contrasts = page.evaluate(CONTRASTS)
    assert contrasts
    assert {text: ratio for text, ratio in contrasts if ratio < 4.5} == {}


def test_on_a_narrow_screen_nothing_is_cut_off(visit: Visit, runs: dict[str, str]) -> None:
    for path in ("", of(runs["every"])):
        page = visit(path, viewport={"width": 420, "height": 800})
        expect(page.get_by_role("table").first).to_be_visible()
        cut = "() => { const page = document.querySelector('.vs'); return page.scrollWidth - page.clientWidth; }"
        assert page.evaluate(cut) <= 1


CONTRASTS = """() => {
  const rgb = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const part = (c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const plain = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = plain(getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll(".vs :is(a, p, td, th, h1, h2, span.bad, span.good, pre)")) {
    const text = element.textContent.trim().slice(0, 40);
    const [a, b] = [light(plain(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    if (text) found.push([text, (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""
