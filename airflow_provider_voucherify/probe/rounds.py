"""What the probe sends: rounds of records that it makes, requests that it queues, and what it reads afterwards."""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from airflow_provider_voucherify.client import calls, csv_imports, customers, products, vouchers
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.models.endpoints import UPDATE_ENDPOINTS

RESOURCES = ("customers", "products", "vouchers")

POLLS = 3
"""Polls of the list of async actions that a round counts on; it makes more if there are calls left at its end."""

CALLS_WHILE_REMOVING = 3
"""Polls that are kept for the end, when actions may still be running."""

CALLS_OUTSIDE_ROUNDS = 10
"""
The first call, two downloads of a report, four pages, another region, and a token with the call that it is for.

With OAuth there are two more tokens, for which the last pages are given up if every poll was needed.
"""


@dataclass(frozen=True, slots=True)
class Own:
    """A record that the probe makes, or may make, and removes."""

    resource: str
    id: str

    def removal(self) -> Call[None]:
        """Return the call that removes it for good."""
        if self.resource == "customers":
            return customers.delete_customer(self.id)
        if self.resource == "products":
            return products.delete_product(self.id, force=True)
        return vouchers.delete_voucher(self.id, force=True)


@dataclass(frozen=True, slots=True)
class Step:
    """
    One call.

    :param name: by which its answer is known.
    :param makes: records that it may create.
    :param headers: sent beside the usual ones.
    """

    name: str
    call: Call[Any]
    makes: tuple[Own, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Round:
    """
    Steps that are carried out together, or not at all if too few calls are left.

    :param seeds: records to create.
    :param requests: bulk calls; all are queued before the first is waited for.
    :param results: names of requests whose finished action is read with its result.
    :param reads: records to read when all actions have finished.
    :param needs_records: whether it is about records that the first round makes.
    """

    seeds: tuple[Step, ...] = ()
    requests: tuple[Step, ...] = ()
    results: tuple[str, ...] = ()
    reads: tuple[Step, ...] = ()
    needs_records: bool = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps."""
        return self.seeds + self.requests + self.reads

    @property
    def own(self) -> set[Own]:
        """The records that it may create."""
        return {own for step in self.steps for own in step.makes}

    @property
    def calls(self) -> int:
        """How many calls it takes, without those that remove its records."""
        return len(self.steps) + len(self.results) + (POLLS if self.requests else 0)


@dataclass(frozen=True, slots=True)
class Rounds:
    """
    All rounds, with ids that begin with a prefix.

    :param prefix: in lower case; codes of vouchers have it in upper case.
    """

    prefix: str

    def all(self) -> tuple[Round, ...]:
        """Return the rounds, those whose answers matter most first."""
        return self._bulk_updates(), self._metadata_updates(), self._failures(), self._odd_requests()

    def _id(self, resource: str, what: str = "record") -> str:
        return f"{self.prefix}{what}".upper() if resource == "vouchers" else f"{self.prefix}{what}"

    def _own(self, resource: str, what: str = "record") -> Own:
        return Own(resource, self._id(resource, what))

    def _customer(self, what: str) -> Own:
        return self._own("customers", what)

    def _bulk_updates(self) -> Round:
        """One request for each resource, and null in a member of metadata and in the place of all of it."""
        seeds = [self._seed(resource, "record", {"seeded": 1}) for resource in RESOURCES]
        requests = [
            Step(
                f"{resource}/bulk",
                _bulk(resource, [{**self._key(resource), "metadata": {"bulk": 2}}]),
                (self._own(resource),),
            )
            for resource in RESOURCES
        ]
        reads = [self._read(resource, f"record after {resource}/bulk") for resource in RESOURCES]
        for what, metadata in (("null member", {"cleared": None, "sent": 3}), ("null metadata", None)):
            one = what.replace(" ", "-")
            seeds.append(self._seed("customers", one, {"seeded": 1, "cleared": 2}))
            record = {"source_id": self._id("customers", one), "name": "Probe", "metadata": metadata}
            requests.append(Step(what, _bulk("customers", [record]), (self._customer(one),)))
            reads.append(self._read("customers", f"record after {what}", one))
        results = ("customers/bulk", "null member", "null metadata")
        return Round(tuple(seeds), tuple(requests), results, tuple(reads))

    def _metadata_updates(self) -> Round:
        """One metadata update for the same record of each resource."""
        requests = tuple(
            Step(
                f"{resource}/metadata",
                calls.bulk_metadata_update(resource, [self._id(resource)], {"shared": 4}),
                (self._own(resource),),
            )
            for resource in RESOURCES
        )
        reads = tuple(self._read(resource, f"record after {resource}/metadata") for resource in RESOURCES)
        return Round(requests=requests, results=("customers/metadata",), reads=reads, needs_records=True)

    def _failures(self) -> Round:
        """Records that are wrong, codes that do not exist or are written otherwise, and an id that is there twice."""
        good, bad, twice = self._customer("good"), self._customer("bad"), self._customer("twice")
        wrong = {"source_id": bad.id, "metadata": "not an object"}
        code, unknown = self._id("vouchers"), self._own("vouchers", "unknown")
        codes = [{"code": code, "metadata": {"known": 5}}, {"code": unknown.id, "metadata": {"known": 5}}]
        same = [{"source_id": twice.id, "metadata": {"place": place}} for place in (1, 2)]
        other_case = [{"code": code.lower(), "metadata": {"other_case": 6}}]
        requests = (
            Step("partly wrong", _bulk("customers", [{"source_id": good.id, "name": "Probe"}, wrong]), (good, bad)),
            Step("all wrong", _bulk("customers", [wrong]), (bad,)),
            Step("unknown code", _bulk("vouchers", codes), (unknown,)),
            Step("other case", _bulk("vouchers", other_case)),
            Step("same id twice", _bulk("customers", same), (twice,)),
        )
        reads = (
            self._read("vouchers", "record after other case"),
            self._read("customers", "record after same id twice", "twice"),
        )
        results = tuple(step.name for step in requests)
        return Round(requests=requests, results=results, reads=reads, needs_records=True)

    def _odd_requests(self) -> Round:
        """Empty lists, a compressed body, a CSV file."""
        packed, imported = self._customer("packed"), self._customer("imported")
        body = Body.of(gzip.compress(calls.encode([{"source_id": packed.id, "name": "Probe"}])))
        file = BytesIO(f"Source_id,Name\n{imported.id},Probe\n".encode())
        requests = (
            Step("no records", _bulk("customers", [])),
            Step("no ids", calls.bulk_metadata_update("customers", [], {"shared": 7})),
            Step(
                "compressed",
                calls.bulk(UPDATE_ENDPOINTS["customers"], body),
                (packed,),
                {"Content-Encoding": "gzip"},
            ),
            Step("csv import", csv_imports.import_csv("customers", file), (imported,)),
        )
        reads = (self._read("customers", "record after compressed", "packed"),)
        return Round(requests=requests, results=("no records",), reads=reads)

    def _key(self, resource: str) -> dict[str, str]:
        return {"code" if resource == "vouchers" else "source_id": self._id(resource)}

    def _seed(self, resource: str, what: str, metadata: dict[str, int]) -> Step:
        own = self._own(resource, what)
        call: Call[Any]
        if resource == "customers":
            call = customers.create_customer({"source_id": own.id, "metadata": metadata})
        elif resource == "products":
            call = products.create_product({"source_id": own.id, "name": own.id, "metadata": metadata})
        else:
            discount = {"type": "PERCENT", "percent_off": 10}
            call = vouchers.create_voucher(
                own.id, {"type": "DISCOUNT_VOUCHER", "discount": discount, "active": False, "metadata": metadata}
            )
        return Step(f"seed {resource} {what}", call, (own,))

    def _read(self, resource: str, name: str, what: str = "record") -> Step:
        read = {"customers": customers.get_customer, "products": products.get_product, "vouchers": vouchers.get_voucher}
        return Step(name, read[resource](self._id(resource, what)))


def new_rounds() -> tuple[Round, ...]:
    """Return all rounds, with ids of a new random prefix."""
    return Rounds(f"probe-{secrets.token_hex(4)}-").all()


def _bulk(resource: str, records: list[dict[str, Any]]) -> Call[str]:
    return calls.bulk_update(resource, records)
