"""
The form for a ``voucherify`` connection, defined once for the user interface of every Airflow version.

Airflow 3.2 and later read ``conn_fields`` and ``ui_field_behaviour`` through the provider's metadata, without importing
the hook. Airflow 2.11 to 3.1 ask the hook for ``form_widgets`` and ``python_field_behaviour``. The fields are read
by ``client.settings.ConnectionExtra``; the table below repeats its defaults for people to read, since that module is
too heavy to be imported for a form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

HIDDEN_FIELDS = ("schema", "extra")
"""Standard fields that the form does not need: the API URL says the scheme, and each extra has a field of its own."""

LABELS = {"host": "API URL or region", "login": "Application ID", "password": "Secret key", "port": "Port"}
"""Labels of the standard fields."""

PLACEHOLDERS = {
    "host": "eu, us1, as1, or https://api.voucherify.io",
    "login": "Application ID (X-App-Id), from Project settings",
    "password": "Secret key (X-App-Token), from Project settings",
    "port": "443 (needed for the Test button of Airflow 3.3.1 and 3.3.2)",
}
"""
What empty standard fields show.

The Test button of Airflow 3.3.1 and 3.3.2 answers "Bad Request" for every saved connection without a port
(apache/airflow pull request 73298).
"""

ADVANCED = "Waiting and requests"


@dataclass(frozen=True, slots=True)
class ExtraField:
    """
    A field that is kept in the connection's extra, under its own name.

    :param label: text beside the field.
    :param description: the help below it, without the default.
    :param type: JSON type of the value.
    :param default: what an empty field means; the help says so. None if the description does.
    :param choices: the allowed values with a text for each; empty if all values are.
    :param minimum: smallest number allowed.
    :param maximum: largest number allowed.
    :param suggestions: values that the field offers while it is typed into.
    :param section: heading of the part of the form that it belongs to; None for the first part.
    """

    label: str
    description: str
    type: Literal["string", "number", "boolean"]
    default: str | float | bool | None
    choices: Mapping[str, str] = field(default_factory=dict)
    minimum: float | None = None
    maximum: float | None = None
    suggestions: tuple[str, ...] = ()
    section: str | None = None

    @property
    def preset(self) -> str | float | bool | None:
        """What the field holds in a new connection; only a choice or a switch holds its default."""
        return self.default if self.choices or self.type == "boolean" else None

    @property
    def help(self) -> str:
        """Return the text below the field, with the default if the field does not hold it."""
        default = f"{self.default:g}" if isinstance(self.default, float) else self.default
        is_shown = self.preset is not None or self.default is None
        return self.description if is_shown else f"{self.description} Default: {default}."


EXTRA_FIELDS = {
    "auth_method": ExtraField(
        "Authentication",
        "API keys (api_keys): application ID and secret key are sent with each request. OAuth 2.0 (oauth): they are "
        "exchanged for a 15-minute token, and only that is sent.",
        "string",
        "api_keys",
        choices={"api_keys": "API keys", "oauth": "OAuth 2.0"},
    ),
    "scope": ExtraField(
        "OAuth scope",
        "Only for OAuth 2.0: what the token may do, separated by spaces. async-actions is always needed; api permits "
        "everything.",
        "string",
        "customers products vouchers async-actions",
        suggestions=(
            "customers products vouchers async-actions",
            "customers products vouchers async-actions exports",
            "customers async-actions",
            "api",
        ),
    ),
    "poll_interval": ExtraField(
        "Poll interval (s)",
        "Longest pause between two polls of an unfinished async action, in seconds; operators may set their own.",
        "number",
        60.0,
        minimum=0.01,
        section=ADVANCED,
    ),
    "rate_limit": ExtraField(
        "Rate limit",
        "API calls that one process may make, such as 100/minute. Default: what Voucherify's answers say.",
        "string",
        None,
        suggestions=("100/minute", "2000/minute", "100/hour"),
        section=ADVANCED,
    ),
    "bulk_rate_limit": ExtraField(
        "Bulk rate limit",
        "The same for bulk calls, such as 50/hour. Default: what Voucherify's answers say.",
        "string",
        None,
        suggestions=("50/hour",),
        section=ADVANCED,
    ),
    "timeout": ExtraField(
        "Timeout (s)",
        "Seconds to wait for the headers of an answer, and then for its end; Voucherify gives up after 180.",
        "number",
        150.0,
        minimum=1,
        maximum=179,
        section=ADVANCED,
    ),
    "connect_timeout": ExtraField(
        "Connect timeout (s)",
        "Seconds to wait for a network connection.",
        "number",
        10.0,
        minimum=0.1,
        maximum=179,
        section=ADVANCED,
    ),
    "api_version": ExtraField(
        "API version",
        "Sent as X-Voucherify-API-Version, whatever the project's own setting is.",
        "string",
        "v2018-08-01",
        section=ADVANCED,
    ),
    "allow_http": ExtraField(
        "Allow plain http",
        "Permit an API URL with http:// on another machine; the secret key then travels unencrypted.",
        "boolean",
        False,
        section=ADVANCED,
    ),
}
"""The members of the connection's extra, in the order of the form."""


def conn_fields() -> dict[str, Any]:
    """Return ``EXTRA_FIELDS`` as ``conn-fields`` of a provider's metadata."""
    return {name: {"label": f.label, "description": f.help, "schema": _schema(f)} for name, f in EXTRA_FIELDS.items()}


def ui_field_behaviour() -> dict[str, Any]:
    """Return the standard fields as ``ui-field-behaviour`` of a provider's metadata."""
    return {"hidden-fields": list(HIDDEN_FIELDS), "relabeling": dict(LABELS), "placeholders": dict(PLACEHOLDERS)}


def python_field_behaviour() -> dict[str, Any]:
    """Return the standard fields as a hook's ``get_ui_field_behaviour`` does."""
    return {name.replace("-", "_"): value for name, value in ui_field_behaviour().items()}


def form_widgets() -> dict[str, Any]:
    """
    Return ``EXTRA_FIELDS`` as a hook's ``get_connection_form_widgets`` does.

    WTForms has no field for fractions that Airflow takes, so numbers are typed as text there.
    """
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import BooleanField, StringField
    from wtforms.validators import Optional, any_of

    def widget(f: ExtraField) -> Any:
        if f.type == "boolean":
            return BooleanField(f.label, default=f.preset, description=f.help)
        validators = [Optional(), any_of(list(f.choices))] if f.choices else [Optional()]
        return StringField(
            f.label, validators=validators, default=f.preset, description=f.help, widget=BS3TextFieldWidget()
        )

    return {name: widget(f) for name, f in EXTRA_FIELDS.items()}


def _schema(f: ExtraField) -> dict[str, Any]:
    schema = {
        "type": [f.type, "null"],
        "default": f.preset,
        "enum": list(f.choices),
        "values_display": dict(f.choices),
        "minimum": f.minimum,
        "maximum": f.maximum,
        "examples": list(f.suggestions),
        "section": f.section,
    }
    return {name: value for name, value in schema.items() if value not in (None, [], {})}
