"""
A server that counts: requests, and bytes of their bodies, which it throws away.

``python -m harness.benchmarks.server`` listens on a free port of 127.0.0.1 and prints its URL. It costs little and runs
in a process of its own, so the CPU time of a client is measured alone. It takes every POST with 202 and an async action
that is done at once, and answers 413 to a body above Voucherify's limit. ``--queue 1000:10`` has it begin with 1,000
unfinished actions that a first-in-first-out queue works off, each in 10 s. With ``--reports`` every action of a post
has a report, according to which all its records were written and every second one existed.

``GET /_counts`` gives the counts; ``POST /_reset`` begins anew and gives a digest of the records received before.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

MAX_BODY_BYTES = 10_485_760
KEPT_BYTES = 4 * 1024 * 1024
_JSON = b"application/json"


@dataclass
class Actions:
    """
    Async actions: those of a queue, which take their time, and those of posts, which are done at once.

    :param queued: how many are in the queue at the start.
    :param seconds_each: how long the queue takes for one.
    :param clock: Unix epoch seconds.
    :ivar reported: of posts, the number of records, by action.
    """

    queued: int = 0
    seconds_each: float = 0.0
    clock: Callable[[], float] = time.time
    started: float = field(init=False)
    reported: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def ids(self) -> list[str]:
        """The ids of the queue, in order."""
        return [f"aa_queued_{i:06}" for i in range(self.queued)]

    def ends(self, number: int) -> float:
        """Return when the queue has worked off an action."""
        return self.started + (number + 1) * self.seconds_each

    def get(self, action_id: str, host: str = "") -> dict[str, Any]:
        """Answer ``GET /v1/async-actions/{id}``; the host is that of reports."""
        if not action_id.startswith("aa_queued_"):
            action = self._action(action_id, self.started, "DONE", with_result=True)
            if action_id in self.reported:
                url = f"http://{host}/reports/{action_id}.csv"
                action["result"] |= {"done_count": self.reported[action_id], "reports": [url]}
            return action
        return self._queued(int(action_id.rpartition("_")[2]), with_result=True)

    def list(self, limit: int, end_date: str | None) -> dict[str, Any]:
        """Answer ``GET /v1/async-actions``: the queue's, newest first, without results."""
        until = datetime.fromisoformat(end_date).timestamp() if end_date else float("inf")
        newest = [n for n in reversed(range(self.queued)) if self._created(n) < until]
        return {
            "object": "list",
            "data_ref": "async_actions",
            "async_actions": [self._queued(n, with_result=False) for n in newest[:limit]],
            "has_more": len(newest) > limit,
        }

    def _created(self, number: int) -> float:
        return self.started + number / 1_000

    def _queued(self, number: int, *, with_result: bool) -> dict[str, Any]:
        now = self.clock()
        begun, ended = now >= self.ends(number - 1), now >= self.ends(number)
        status = "DONE" if ended else "IN_PROGRESS" if begun else "ENQUEUED"
        return self._action(f"aa_queued_{number:06}", self._created(number), status, with_result=with_result)

    def _action(self, action_id: str, created: float, status: str, *, with_result: bool) -> dict[str, Any]:
        action: dict[str, Any] = {
            "id": action_id,
            "type": "CUSTOMERS.BULK_UPDATE",
            "status": status,
            "progress": 100 if status == "DONE" else 0,
            "created_at": datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds"),
        }
        if status == "DONE":
            action["operation_status"] = "SUCCESS"
            if with_result:
                action["result"] = {"done_count": 1, "failed_count": 0, "errors": [], "reports": []}
        return action


@dataclass
class Counts:
    """What was received since the start or the last reset."""

    gets: int = 0
    lists: int = 0
    refused: int = 0
    sizes: list[int] = field(default_factory=list)
    kept: list[bytes] | None = field(default_factory=list)

    def digest(self) -> str:
        """Return a digest of the records in the bodies kept, whatever their order of members and their spaces."""
        records = [record for body in self.kept or () for record in json.loads(body)]
        canonical = sorted(json.dumps(record, sort_keys=True) for record in records)
        return hashlib.sha256("\n".join(canonical).encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Return the counts."""
        return {"gets": self.gets, "lists": self.lists, "refused": self.refused, "sizes": self.sizes}


class CountingServer:
    """
    Answers requests; ``protocol`` is what ``loop.create_server`` takes.

    :param reports: by action; None to make none.
    """

    def __init__(self, actions: Actions, reports: dict[str, bytes] | None = None) -> None:
        self.actions = actions
        self.reports = reports
        self.counts = Counts()

    def protocol(self) -> asyncio.BaseProtocol:
        """Make the protocol of a new connection."""
        return _Connection(self)

    def keeps(self, size: int) -> bool:
        """Say whether a body of which so many bytes have come is kept until it has come whole."""
        return self.reports is not None or (self.counts.kept is not None and size < KEPT_BYTES)

    def answer(
        self, method: str, target: str, length: int, body: bytes | None, host: str = ""
    ) -> tuple[int, dict[str, Any] | bytes]:
        """Count a request and answer it."""
        url = urlsplit(target)
        if url.path == "/_counts":
            return 200, self.counts.as_json()
        if url.path == "/_reset":
            digest, self.counts = self.counts.digest(), Counts(kept=None)
            return 200, {"digest": digest}
        if method == "GET":
            if self.reports and url.path.startswith("/reports/"):
                return 200, self.reports[url.path.removeprefix("/reports/").removesuffix(".csv")]
            return 200, self._read(url.path, parse_qs(url.query), host)
        if length > MAX_BODY_BYTES:
            self.counts.refused += 1
            return 413, {"code": 413, "key": "payload_too_large", "message": "Payload too large"}
        if self.counts.kept is not None and body is not None:
            self.counts.kept.append(body)
        self.counts.sizes.append(length)
        action_id = f"aa_{len(self.counts.sizes):08}"
        if self.reports is not None and body is not None:
            ids = re.findall(rb'"source_id":"([^"]*)"', body)
            rows = [b"%s,%s,true\r\n" % (one, b"false" if place % 2 else b"true") for place, one in enumerate(ids)]
            self.reports[action_id] = b"".join([b"source_id,found,updated\r\n", *rows])
            self.actions.reported[action_id] = len(ids)
        return 202, {"async_action_id": action_id}

    def _read(self, path: str, query: dict[str, list[str]], host: str) -> dict[str, Any]:
        action_id = path.removeprefix("/v1/async-actions").strip("/")
        if action_id:
            self.counts.gets += 1
            return self.actions.get(action_id, host)
        self.counts.lists += 1
        return self.actions.list(int(query.get("limit", ["10"])[0]), query.get("end_date", [None])[0])


class _Connection(asyncio.BufferedProtocol):
    """HTTP/1.1 with ``Content-Length``, read into one buffer that is used again and again."""

    def __init__(self, server: CountingServer) -> None:
        self._server = server
        self._buffer = memoryview(bytearray(262_144))
        self._head = bytearray()
        self._body = bytearray()
        self._missing = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        data = self._buffer[:count]
        while data:
            if self._missing < 0:
                self._head += data
                data = self._begin()
            taken = min(len(data), max(self._missing, 0))
            if self._server.keeps(len(self._body)):
                self._body += data[:taken]
            self._missing -= taken
            data = data[taken:]
            if self._missing == 0:
                self._end()

    def _begin(self) -> memoryview:
        """Read the head if it is complete, and return what came after it."""
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        if not end:
            return memoryview(b"")
        self._head.clear()
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "transfer-encoding" in headers:
            raise NotImplementedError("bodies need a Content-Length")
        self._method, self._target, _ = request.split(" ", 2)
        self._host = headers.get("host", "")
        self._length = self._missing = int(headers.get("content-length", 0))
        if not self._missing:
            self._end()
        return memoryview(rest)

    def _end(self) -> None:
        complete = len(self._body) == self._length
        status, answer = self._server.answer(
            self._method, self._target, self._length, bytes(self._body) if complete else None, self._host
        )
        self._body.clear()
        self._missing = -1
        kind, content = (b"text/csv", answer) if isinstance(answer, bytes) else (_JSON, json.dumps(answer).encode())
        head = b"HTTP/1.1 %d .\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(content))
        self._transport.write(head + content)


async def _serve(counting: CountingServer) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(counting.protocol, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--queue", default="0:0", help="actions:seconds of each")
    parser.add_argument("--reports", action="store_true", help="make a report of every post")
    arguments = parser.parse_args()
    actions, _, seconds = arguments.queue.partition(":")
    asyncio.run(_serve(CountingServer(Actions(int(actions), float(seconds)), {} if arguments.reports else None)))


if __name__ == "__main__":
    main()
