"""The state of the local project: objects, async actions, tokens and limits. No HTTP here."""

from __future__ import annotations

import hmac
import math
import secrets
from bisect import insort
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from threading import RLock
from typing import Any

from airflow_provider_voucherify.local_voucherify.actions import (
    Action,
    ActionScript,
    WireHook,
    wire_time,
)
from airflow_provider_voucherify.local_voucherify.csv_imports import CsvRows
from airflow_provider_voucherify.local_voucherify.customers import CustomerHistory, Segment
from airflow_provider_voucherify.local_voucherify.endpoints import BulkEndpoint, CsvImportEndpoint
from airflow_provider_voucherify.local_voucherify.export_files import AddedObjects, ExportedFile, Objects
from airflow_provider_voucherify.local_voucherify.export_requests import EXPORTED_OBJECTS, ExportRequest
from airflow_provider_voucherify.local_voucherify.export_values import needs_description
from airflow_provider_voucherify.local_voucherify.exports import Exports
from airflow_provider_voucherify.local_voucherify.limits import RateLimits
from airflow_provider_voucherify.local_voucherify.metadata_schema import MetadataSchema, object_name
from airflow_provider_voucherify.local_voucherify.options import Options
from airflow_provider_voucherify.local_voucherify.processing import Processing
from airflow_provider_voucherify.local_voucherify.records import OBJECT_KINDS, RecordStore
from airflow_provider_voucherify.local_voucherify.report_files import ReportFile
from airflow_provider_voucherify.local_voucherify.tokens import TokenStore
from airflow_provider_voucherify.local_voucherify.validation import Payload, RecordRules


@dataclass(frozen=True, slots=True)
class ActionsPage:
    """A page of ``GET /v1/async-actions``: the objects, newest first, and whether older ones remain."""

    actions: list[dict[str, Any]]
    has_more: bool


@dataclass(frozen=True, slots=True)
class _StoredSchema:
    id: str
    related_object: str
    schema: MetadataSchema
    created_at: str

    def wire(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "related_object": self.related_object,
            **self.schema.wire(),
            "created_at": self.created_at,
            "updated_at": self.created_at,
            "object": "metadata_schema",
        }


def _stored_schema(resource: str, schema: Mapping[str, Any], now: float) -> _StoredSchema:
    return _StoredSchema(
        "ms_" + secrets.token_hex(12), object_name(resource), MetadataSchema.read(schema), wire_time(now)
    )


class Project:
    """
    One Voucherify project in memory.

    Actions are processed in the order in which they came, one at a time unless the option ``queue_scope`` says
    otherwise, and only when somebody looks: every reading method first processes those whose time is up. All methods
    can be called from several threads.

    :param options: how the project behaves.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.reports_url = ""
        self.export_files_url = ""
        self._lock = RLock()
        self._clear()

    def _clear(self) -> None:
        now = self.now()
        self.stores = {
            resource: RecordStore(
                kind,
                stores_fields=self.options.store_records,
                case_sensitive=self.options.case_sensitive_codes or resource != "vouchers",
            )
            for resource, kind in OBJECT_KINDS.items()
        }
        self.limits = RateLimits(self.options, now)
        self.tokens = TokenStore(self.options.token_lifetime)
        self._schemas = {
            object_name(name): _stored_schema(name, schema, now)
            for name, schema in self.options.metadata_schemas.items()
        }
        self._actions: dict[str, Action] = {}
        self._queue: deque[Action] = deque()
        self._queue_free_at: dict[str, float] = {}
        self._scripts: deque[ActionScript] = deque()
        self._hooks: list[WireHook] = []
        self._report_files: dict[str, ReportFile] = {}
        self.history = CustomerHistory()
        self.segments: dict[str, Segment] = {}
        self.exports = Exports(self.options)
        self._added: dict[str, dict[str, dict[str, Any]]] = {}

    def reset(self) -> None:
        """Forget all objects, actions, tokens, calls and scripts."""
        with self._lock:
            self._clear()

    @property
    def lock(self) -> RLock:
        """What is held while objects are read and changed in one go."""
        return self._lock

    def now(self) -> float:
        """Return the project's time in seconds since the epoch."""
        return self.options.clock()

    def knows_key(self, app_id: str, secret_key: str) -> bool:
        """Whether the two are the project's API key."""
        same_id = hmac.compare_digest(app_id.encode(), self.options.app_id.encode())
        return hmac.compare_digest(secret_key.encode(), self.options.secret_key.encode()) and same_id

    def add_voucher(self, code: str, fields: dict[str, Any]) -> None:
        """Create a voucher, as no bulk endpoint can, or change it."""
        with self._lock:
            self.stores["vouchers"].update(code, fields, self.options.metadata_mode, wire_time(self.now()))

    def set_metadata_schema(self, resource: str, schema: Mapping[str, Any]) -> None:
        """Define or replace the metadata schema of a resource, or a custom one, for actions yet to be processed."""
        with self._lock:
            self.advance()
            self._schemas[object_name(resource)] = _stored_schema(resource, schema, self.now())

    def add_segment(self, name: str, source_ids: Collection[str]) -> str:
        """Make a segment of customers and return its id."""
        with self._lock:
            segment = Segment.new(name, frozenset(source_ids))
            self.segments[segment.id] = segment
            return segment.id

    def add_activity(self, source_id: str, event_type: str, data: Mapping[str, Any]) -> str:
        """Let something happen to a customer, and return its id."""
        with self._lock:
            return self.history.add(source_id, event_type, wire_time(self.now()), data)

    def add_exported(self, exported_object: str, row: dict[str, Any]) -> None:
        """Add an object of a kind that nothing but exports has here."""
        kinds = EXPORTED_OBJECTS.keys() - {kind.name for kind in OBJECT_KINDS.values()}
        if exported_object not in kinds:
            raise ValueError(f"exported_object must be one of {sorted(kinds)}, not {exported_object!r}")
        with self._lock:
            rows = self._added.setdefault(exported_object, {})
            rows[str(len(rows))] = row

    def create_export(self, request: ExportRequest) -> dict[str, Any]:
        """Create an export of the objects as they are now, and return what the API shows of it at once."""
        name = request.exported.name
        resource = next((resource for resource, kind in OBJECT_KINDS.items() if kind.name == name), None)
        with self._lock:
            if resource is None:
                objects: Objects = AddedObjects(dict(self._added.get(name, {})))
            else:
                objects = self.records(resource).snapshot(described=needs_description(request))
            schema = self.schemas().get(name)
            names = () if schema is None else tuple(schema.definitions)
            self.exports.url = self.export_files_url
            return self.exports.add(ExportedFile(request, objects, names, self.options), self.now()).wire(
                "SCHEDULED", None
            )

    def script_next(self, script: ActionScript, times: int) -> None:
        """Let the next ``times`` scheduled actions follow a script."""
        with self._lock:
            self._scripts.extend([script] * times)

    def add_hook(self, hook: WireHook) -> None:
        """Pass every action object through ``hook`` before it is shown."""
        with self._lock:
            self._hooks.append(hook)

    def schedule(self, endpoint: BulkEndpoint | CsvImportEndpoint, payload: Payload, request_id: str) -> Action:
        """Put an action at the end of the queue and return it."""
        with self._lock:
            self.advance()
            script = self._scripts.popleft() if self._scripts else ActionScript()
            created_at = math.floor(self.now() * 1000) / 1000
            action = self._place_in_queue(
                Action(
                    id="aa_" + secrets.token_hex(9),
                    request_id=request_id,
                    endpoint=endpoint,
                    created_at=created_at,
                    started_at=max(created_at, self._queue_free_at.get(self._queue_of(endpoint), 0.0)),
                    finished_at=float("inf"),
                    record_count=len(payload),
                    payload=payload,
                    script=script,
                )
            )
            self._actions[action.id] = action
            return action

    def _place_in_queue(self, action: Action) -> Action:
        """Set when an action ends; one that is stuck does not hold up those behind it."""
        if action.script.stuck is None:
            by_size = self.options.action_seconds + self.options.seconds_per_record * action.record_count
            duration = by_size if action.script.seconds is None else action.script.seconds
            action.finished_at = action.started_at + duration
            if self.options.queue_scope != "none":
                self._queue_free_at[self._queue_of(action.endpoint)] = action.finished_at
            insort(self._queue, action, key=lambda queued: queued.finished_at)
        return action

    def _queue_of(self, endpoint: BulkEndpoint | CsvImportEndpoint) -> str:
        """Return the name of the queue in which an endpoint's actions wait for each other."""
        return endpoint.action_type if self.options.queue_scope == "type" else "project"

    def advance(self) -> None:
        """Process the actions whose time is up."""
        with self._lock:
            now = self.now()
            while self._queue and self._queue[0].finished_at <= now:
                self._process(self._queue.popleft())

    def _process(self, action: Action) -> None:
        if action.payload is None:
            return
        if isinstance(action.endpoint, CsvImportEndpoint):
            rows = CsvRows(self.stores, self.schemas(), wire_time(action.finished_at))
            action.outcome = rows.imported(action.endpoint, action.payload, apply=action.script.applies_records)
        else:
            action.outcome = outcome = self._processing(action.endpoint).process(action, action.payload)
            self._report_files.update({file.id: file for file in outcome.report_files})
        action.payload = None

    def _processing(self, endpoint: BulkEndpoint) -> Processing:
        return Processing(self.options, self.rules(endpoint), self.stores[endpoint.resource])

    def refuse(self, endpoint: BulkEndpoint, payload: Payload) -> None:
        """Raise the ``ApiError`` for a body that is refused because of its records, as some options say."""
        with self._lock:
            self.advance()
            self._processing(endpoint).refuse(payload)

    def schemas(self) -> Mapping[str, MetadataSchema]:
        """Return the metadata schemas by the name of their object."""
        return {name: stored.schema for name, stored in self._schemas.items()}

    def rules(self, endpoint: BulkEndpoint) -> RecordRules:
        """Return what a record of an endpoint must satisfy."""
        schemas = self.schemas()
        return RecordRules(
            endpoint=endpoint,
            schema=schemas.get(object_name(endpoint.resource)),
            custom_schemas=schemas,
            reject_unknown_fields=self.options.reject_unknown_fields,
        )

    def records(self, resource: str) -> RecordStore:
        """Return the objects of a resource, up to date."""
        with self._lock:
            self.advance()
            return self.stores[resource]

    def actions(self) -> dict[str, Action]:
        """Return all actions by id, oldest first."""
        with self._lock:
            self.advance()
            return dict(self._actions)

    def action_wire(self, action_id: str) -> dict[str, Any] | None:
        """Return the object of ``GET /v1/async-actions/{id}``, None for an unknown id."""
        with self._lock:
            self.advance()
            action = self._actions.get(action_id)
            return self._shown(action, self.now()) if action is not None else None

    def actions_page(self, limit: int, before: float | None) -> ActionsPage:
        """
        Return the newest actions without their results.

        :param limit: the number of actions at most.
        :param before: only actions scheduled before this time (seconds since the epoch); None for all.
        """
        with self._lock:
            self.advance()
            now = self.now()
            matching = [a for a in reversed(self._actions.values()) if before is None or a.created_at < before]
            shown = [self._shown(action, now) for action in matching[:limit]]
            without_results = [{name: action[name] for name in action if name != "result"} for action in shown]
            return ActionsPage(without_results, has_more=len(matching) > limit)

    def _shown(self, action: Action, now: float) -> dict[str, Any]:
        wire = action.wire(now, self.options, self.reports_url)
        for hook in self._hooks:
            wire = hook(action, wire)
        return wire

    def report_file(self, report_id: str, token: str) -> ReportFile | None:
        """Return a report file, None when the id is unknown or the token is not the file's."""
        with self._lock:
            file = self._report_files.get(report_id)
            return file if file is not None and hmac.compare_digest(file.token, token) else None

    def schemas_wire(self) -> list[dict[str, Any]]:
        """Return the objects of ``GET /v1/metadata-schemas``."""
        return [stored.wire() for stored in self._schemas.values()]

    def schema_wire(self, related_object: str) -> dict[str, Any] | None:
        """Return the object of ``GET /v1/metadata-schemas/{resource}``, None when there is no schema."""
        stored = self._schemas.get(related_object)
        return stored.wire() if stored is not None else None
