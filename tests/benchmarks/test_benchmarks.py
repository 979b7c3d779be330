"""The benchmarks' own yardsticks: the server that counts, the queue that it plays, the targets and the plot."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import process
from harness.benchmarks import known
from harness.benchmarks.page import plot_svg
from harness.benchmarks.rows import write_sqlite
from harness.benchmarks.server import Actions
from harness.benchmarks.tables import Target
from harness.benchmarks.waiting import one_after_the_other, poll_each

LIMIT = 10_485_760


@pytest.fixture
def counting() -> Iterator[httpx.Client]:
    with process.serving("harness.benchmarks.server") as url, httpx.Client(base_url=url) as client:
        yield client


def test_requests_and_bytes_are_counted_and_bodies_above_the_limit_refused(counting: httpx.Client) -> None:
    answers = [counting.post("/v1/customers/bulk/async", content=b"x" * size) for size in (LIMIT, LIMIT + 1)]

    assert [answer.status_code for answer in answers] == [202, 413]
    action = counting.get(f"/v1/async-actions/{answers[0].json()['async_action_id']}").json()
    assert action["status"] == "DONE"
    assert counting.get("/_counts").json() == {"gets": 1, "lists": 0, "refused": 1, "sizes": [LIMIT]}


def test_every_post_has_a_report_where_that_is_asked_for() -> None:
    with process.serving("harness.benchmarks.server", "--reports") as url:
        posted = httpx.post(f"{url}/v1/customers/bulk/async", content=b'[{"source_id":"a"},{"source_id":"b","x":1}]')
        action = httpx.get(f"{url}/v1/async-actions/{posted.json()['async_action_id']}").json()
        report = httpx.get(action["result"]["reports"][0])

    assert action["result"]["done_count"] == 2
    assert report.text.splitlines() == ["source_id,found,updated", "a,true,true", "b,false,true"]


def test_the_digest_is_of_the_records_not_of_their_bytes() -> None:
    def digest(*bodies: bytes) -> str:
        with process.serving("harness.benchmarks.server") as url:
            for body in bodies:
                httpx.post(f"{url}/v1/customers/bulk/async", content=body)
            return str(process.ask(f"{url}/_reset", "POST")["digest"])

    together = digest(b'[{"a":1,"b":"\\u00eb"},{"a":2}]')

    assert digest('[{"b": "ë", "a": 1}]'.encode(), b'[{"a": 2}]') == together
    assert digest(b'[{"a":1,"b":"e"},{"a":2}]') != together


def test_what_a_killed_process_sends_twice_is_counted(tmp_path: Path) -> None:
    write_sqlite(tmp_path / "customers.sqlite", known.ROWS)
    source = {"kind": "sqlite", "where": str(tmp_path / "customers.sqlite"), "rows": known.ROWS}
    job = {"variant": "http_operator", "source": source, "folder": str(tmp_path)}

    assert known.play("killed", job, sys.executable) == {
        "ends": "success",
        "actions": 10,
        "true_arrived": known.ROWS,
        "twice": 6 * known.CHUNK,
        "posts": 16,
    }


def test_what_is_said_of_rows_is_set_beside_what_is_true() -> None:
    wrong = {"ends": "success", "true_arrived": 9_880}
    rest = {"refused": {"true_arrived": 5_000}, "killed": {"true_arrived": 10_000, "twice": 2_000, "posts": 12}}
    judged = known.table(
        {
            "ours": {"wrong": {**wrong, "read": 10_000, "arrived": 9_880, "failed": 120, "named": 119}, **rest},
            "dlt": {"wrong": {**wrong, "read": 10_000, "arrived": 10_000, "failed": 0}, **rest},
            "http_operator": {"wrong": {**wrong, "actions": 10}, **rest},
        }
    )

    _, truth, ours, dlt, posting = judged.tables[0].lines
    assert truth[2:5] == ["10,000", "9,880", "120"]
    assert ours[2:] == ["10,000", "9,880", "120", "119", "0", "–", "0"]
    assert dlt[2:] == ["10,000", "10,000", "0", "–", "0", "–", "120"]
    assert posting[2:] == ["–", "–", "–", "–", "10,000", "10", "0"]
    assert [target.missed_by for target in judged.targets] == [1, 0, 0]


def test_the_queue_is_first_in_first_out() -> None:
    now = 1_000.0
    queue = Actions(3, 10.0, clock=lambda: now)
    now += 15

    assert [queue.get(i)["status"] for i in queue.ids] == ["DONE", "IN_PROGRESS", "ENQUEUED"]
    assert [action["id"] for action in queue.list(2, None)["async_actions"]] == queue.ids[:0:-1]
    assert queue.list(2, None)["has_more"]


def test_how_often_the_other_policies_poll() -> None:
    """Three actions that end after 20, 40 and 60 s."""
    assert poll_each(3, 20, 5) == 4 + 8 + 12
    assert one_after_the_other(3, 20, 5) == (1 + 4) + (1 + 4) + (1 + 4)


def test_a_target_says_what_was_measured_and_whether_it_is_missed_by_far() -> None:
    met = Target("memory", 99, 100, unit=" MB")
    near = Target("ratio", 1.4, 1.25, unit="×", margin=0.2, digits=2)
    far = Target("faster", 4.0, 10, "at least", unit="×", margin=0.5)

    assert met.line() == "- **met**: memory: 99 MB (at most 100 MB)"
    assert near.line(with_margin=True).endswith("ratio: 1.40× (at most 1.25×; --check allows 20% more)")
    assert far.line().startswith("- **missed**")
    assert [target.is_missed_by_far for target in (met, near, far)] == [False, False, True]


def test_the_plot_is_an_image_with_a_bar_for_each_variant() -> None:
    drawn = ET.fromstring(plot_svg([("this & that", 2.0, "ours"), ("other", 20.0, "sdk_100")]))

    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[1:] == ["this & that", "2.0", "other", "20.0"]


def test_the_heartbeat_tells_what_this_provider_blocks_from_what_others_do(tmp_path: Path) -> None:
    """By the files of the frames that it finds in the loop while that is late."""
    from harness.load import heartbeat

    folder = tmp_path / "airflow_provider_voucherify"
    folder.mkdir()
    (folder / "blocks.py").write_text("import time\ndef sleep(): time.sleep(0.3)\n")
    spec = importlib.util.spec_from_file_location("blocks", folder / "blocks.py")
    assert spec is not None
    assert spec.loader is not None
    ours = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ours)

    async def seconds() -> list[dict[str, float]]:
        watch = heartbeat._Watch(str(tmp_path / "stacks"))
        looking = threading.Thread(target=watch.run)
        looking.start()
        told = []
        for block in (ours.sleep, lambda: time.sleep(0.3)):
            beating = asyncio.create_task(heartbeat._second(watch))
            await asyncio.sleep(0.1)
            block()
            told.append(await beating)
        watch.ended = True
        await asyncio.to_thread(looking.join)
        heartbeat.gc.callbacks.remove(watch._collector)
        return told

    of_ours, of_others = asyncio.run(seconds())
    assert of_ours["blocked"] >= of_ours["ours"] > 0.0
    assert of_others["blocked"] > of_others["ours"]
