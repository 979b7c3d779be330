"""Carries out the rounds and the single steps beside them, and removes what they made."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_provider_voucherify.client import calls, customers, products
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.probe.counting import CountingClient
from airflow_provider_voucherify.probe.facts import Answered, Facts, Missing, NoReading
from airflow_provider_voucherify.probe.rounds import CALLS_WHILE_REMOVING, Own, Round, Step
from airflow_provider_voucherify.sync.types.text import counted

FIRST = "the first call"
MAX_REPORT_TEXT = 400
"""Characters kept of a report: its header and a few rows."""

_PAGES = (
    Step("customers, page 99", customers.list_customers(page=99)),
    Step("customers, page 100", customers.list_customers(page=100)),
    Step("products, page 100", products.list_products(page=100)),
    Step("products, page 101", products.list_products(page=101)),
)


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How long the probe waits for what takes time.

    :param settle: seconds between writing a record and the next request about it; the vendor's own tests wait 2 or 3.
    :param pauses: seconds before each poll of the async actions.
    """

    settle: float = 3.0
    pauses: tuple[float, ...] = (3.0, 10.0, 30.0, 60.0)


class Run:
    """
    One run of the probe.

    :param client: counts the calls; its counter has how many are allowed.
    :param rounds: what is to be sent.
    :param pace: how long to wait.
    :param other_region: base URL of a region that the project is not in; None if none is to be asked.
    """

    def __init__(
        self, client: CountingClient, rounds: tuple[Round, ...], pace: Pace, other_region: str | None = None
    ) -> None:
        self.facts = Facts()
        self.facts.limits = client.limits
        self.still_running: list[str] = []
        """Requests whose actions had not finished when their records were removed."""
        self._client, self._rounds, self._pace, self._other_region = client, rounds, pace, other_region
        self._own: dict[Own, None] = {}
        self._running: dict[str, str] = {}
        self._late: dict[str, str] = {}
        self._queueing = False

    def first_call(self) -> Answered | Missing:
        """Ask for one customer, which shows whether the connection works, the rate limit and the project's size."""
        self._ask(Step(FIRST, customers.list_customers(limit=1)))
        left = self._client.calls_left()
        if left is not None:
            counter = self._client.counter
            counter.allowed = min(counter.allowed, counter.sent + left)
        return self.facts[FIRST]

    def ask(self) -> None:
        """Carry out all that the calls suffice for; what they do not suffice for is a ``Missing`` fact."""
        self._client.counter.reserved = CALLS_WHILE_REMOVING
        for one in self._rounds:
            self._carry_out(one)
        self._read_report()
        self._ask_elsewhere()
        self._ask_all(_PAGES)

    def remove(self) -> list[Own]:
        """Remove every record that may have been made, and return those that are left."""
        self._client.counter.reserved = 0
        left = list(self._own)
        try:
            self._wait_for_running()
            for own in tuple(left):
                answer = self._client.ask(own.removal())
                if isinstance(answer, Answered) and (not answer.refused or answer.status == 404):
                    left.remove(own)
        except KeyboardInterrupt:  # a second Ctrl-C: whoever pressed it is told what is left
            pass
        return left

    def _carry_out(self, one: Round) -> None:
        counter = self._client.counter
        new = one.own - self._own.keys()
        why = None
        if counter.left < one.calls + len(new):
            why = f"it takes {counted(one.calls + len(new), 'call')}, with {max(0, counter.left)} left"
        elif one.needs_records and not self._own:
            why = "it is about records that were not made"
        if why is not None:
            self.facts.update({step.name: Missing(why, asked=False) for step in one.steps})
            return
        counter.reserved += len(new)
        self._ask_all(one.seeds)
        time.sleep(self._pace.settle if one.seeds else 0.0)
        self._ask_all(one.requests)
        self._wait(keep=len(one.results) + len(one.reads))
        for name in one.results:
            self._read_action(name)
        time.sleep(self._pace.settle)
        self._ask_all(one.reads)

    def _ask_all(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._ask(step)

    def _ask(self, step: Step) -> None:
        self._own.update(dict.fromkeys(step.makes))
        self._queueing = step.call.bucket == "bulk_api_calls"
        answer = self.facts[step.name] = self._client.ask(step.call, step.headers)
        self._queueing = False
        if isinstance(answer, Answered) and isinstance(action_id := answer.member.get("async_action_id"), str):
            self._running[action_id] = step.name

    def _wait(self, keep: int) -> None:
        """
        Poll the list of actions until all of this run have finished.

        :param keep: calls to leave for what comes next.
        """
        for pause in self._pace.pauses:
            if not self._running or self._client.counter.left <= keep:
                break
            time.sleep(pause)
            self._poll()
        waited = sum(self._pace.pauses)
        for name in self._running.values():
            self.facts[f"action of {name}"] = Missing(f"its action did not finish in {waited:.0f} s", asked=True)
        self._late |= self._running
        self._running.clear()

    def _poll(self) -> bool:
        """Note which actions have finished, and say whether any in the list, of whomever, has not."""
        page = self._client.ask(calls.list_async_actions())
        actions = page.member.get("async_actions") if isinstance(page, Answered) else None
        listed = [one for one in actions if isinstance(one, dict)] if isinstance(actions, list) else []
        unfinished = [one for one in listed if one.get("status") not in ("DONE", "FAILED")]
        for action in listed:
            if action in unfinished:
                continue
            self._late.pop(action.get("id", ""), None)
            if (name := self._running.pop(action.get("id", ""), None)) is not None:
                self.facts[f"action of {name}"] = Answered(200, action)
        return bool(unfinished) or not isinstance(actions, list)

    def _wait_for_running(self) -> None:
        """Wait for actions that could bring a record back after it was removed."""
        if self._own and (self._running or self._late or self._queueing):
            for pause in self._pace.pauses:
                time.sleep(pause)
                if self._client.counter.left <= len(self._own) or not self._poll():
                    break
        self.still_running = [*self._running.values(), *self._late.values()]

    def _read_action(self, name: str) -> None:
        """Read a finished action again, since the list shows no result."""
        if isinstance(listed := self.facts.get(f"action of {name}"), Answered):
            action_id = listed.member["id"]
            self._ask(Step(f"action of {name}", calls.get_async_action(action_id)))

    def _read_report(self) -> None:
        """Fetch the report of the first bulk update without credentials, and with them if that fails."""
        try:
            reports = self.facts.result("customers/bulk").get("reports")
        except NoReading as error:
            self.facts["report"] = Missing(error.why, error.asked)
            return
        urls = [url for url in reports if isinstance(url, str)] if isinstance(reports, list) else []
        if urls and self._client.counter.left < 2:
            self.facts["report"] = Missing("it takes 2 calls", asked=False)
        elif urls:
            self.facts["report"] = Answered(200, {"files": len(urls), **self._fetched(urls[0])})
        else:
            self.facts["report"] = Answered(200, {"files": 0})

    def _fetched(self, url: str) -> dict[str, object]:
        settings = self._client.settings
        host = host_of(url)
        kind = "other_host"
        if settings.owns(url):
            kind = "api_host" if host == host_of(settings.base_url) else "download_host"
        seen: dict[str, object] = {"host": host, "kind": kind}
        content = self._client.fetch(url, with_credentials=False)
        if isinstance(content, str):
            seen["without_credentials"] = content
            content = self._client.fetch(url, with_credentials=True) if settings.owns(url) else content
        if isinstance(content, str):
            return {**seen, "with_credentials": content}
        return {**seen, "text": content[: 4 * MAX_REPORT_TEXT].decode("utf-8", "replace")[:MAX_REPORT_TEXT]}

    def _ask_elsewhere(self) -> None:
        """Make one call in another region, and one with a token for something else."""
        settings = self._client.settings
        self.facts["other region"] = Missing("no other region is known; --other-region names one", asked=False)
        if self._other_region is not None:
            elsewhere = settings.model_copy(update={"base_url": self._other_region})
            self._ask_as(elsewhere, "other region")
        self.facts["missing scope"] = Missing("the connection uses API keys, which have no scopes", asked=False)
        if settings.extra.auth_method == "oauth":
            extra = settings.extra.model_copy(update={"scope": "async-actions"})
            self._ask_as(settings.model_copy(update={"extra": extra}), "missing scope")

    def _ask_as(self, settings: ConnectionSettings, name: str) -> None:
        with CountingClient(settings, self._client.counter, patience=0.0) as client:
            self.facts[name] = client.ask(customers.list_customers(limit=1))


def host_of(url: str) -> str:
    """Return the host and port of a URL, without a user that is before them."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return "not a URL"
