"""The connection form: what Airflow's user interface is given, and that it means what the provider makes of it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from installed import AIRFLOW

from airflow_provider_voucherify.client.settings import ConnectionExtra, ConnectionSettings
from airflow_provider_voucherify.connection.form import EXTRA_FIELDS
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.sync.waiting.pauses import DEFAULT_POLL_INTERVAL

reads_metadata = pytest.mark.needs_airflow("3.2", "older ones take the form from the hook, which cannot say this")


@pytest.fixture(scope="module")
def service() -> Any:
    """What the API server asks for connection forms."""
    if AIRFLOW == (3, 0) and find_spec("flask_appbuilder") is None:
        pytest.skip("Airflow 3.0 shows no fields of any provider unless its FAB provider is installed")
    module = "airflow.api_fastapi.core_api.services.ui.connections"
    return pytest.importorskip(
        module, reason="its API server came with Airflow 3; for the form of Airflow 2 see below"
    ).HookMetaService


@pytest.fixture(scope="module")
def form(service: Any) -> Any:
    """What the API server tells the browser of the connection type."""
    (form,) = [form for form in service.hook_meta_data() if form.connection_type == "voucherify"]
    return form


def test_the_standard_fields_have_the_names_that_voucherify_uses(form: Any) -> None:
    fields = form.standard_fields

    assert form.hook_name == "Voucherify"
    assert fields.login.title == "Application ID"
    assert fields.password.title == "Secret key"
    assert fields.host.title == "API URL or region"
    assert "eu, us1, as1" in fields.host.placeholder
    assert "X-App-Token" in fields.password.placeholder
    assert fields.url_schema.hidden
    assert not fields.port.hidden, "Airflow 3.3.2 tests a saved connection only if it has a port"


def test_each_extra_has_a_label_and_help(form: Any) -> None:
    assert list(form.extra_fields) == list(EXTRA_FIELDS)
    for field in form.extra_fields.values():
        assert field["schema"]["title"]
        assert field["description"]


@reads_metadata
def test_the_authentication_is_a_choice_with_names_for_people(form: Any) -> None:
    field = form.extra_fields["auth_method"]

    assert field["value"] == "api_keys"
    assert field["schema"]["enum"] == ["api_keys", "oauth"]
    assert field["schema"]["values_display"] == {"api_keys": "API keys", "oauth": "OAuth 2.0"}
    assert "api_keys" in field["description"]
    assert "oauth" in field["description"]


@reads_metadata
def test_fields_that_few_people_need_have_a_section_of_their_own(form: Any) -> None:
    sections = {name: field["schema"].get("section") for name, field in form.extra_fields.items()}

    assert {name for name, section in sections.items() if section is None} == {"auth_method", "scope"}


@pytest.mark.parametrize("name", ConnectionExtra.model_fields)
def test_the_default_that_a_field_tells_is_the_one_that_holds(form: Any, name: str) -> None:
    real = DEFAULT_POLL_INTERVAL if name == "poll_interval" else ConnectionExtra.model_fields[name].default
    shown = form.extra_fields[name]

    assert EXTRA_FIELDS[name].default == real
    if real is None:
        assert (shown["value"], "Default: what Voucherify's answers say." in shown["description"]) == (None, True)
    elif shown["value"] is None:
        assert (
            f"Default: {real:g}." in shown["description"] if isinstance(real, float) else real in shown["description"]
        )
    else:
        assert shown["value"] == real


@pytest.mark.parametrize("name", EXTRA_FIELDS)
def test_whatever_a_field_offers_can_be_used(name: str) -> None:
    field = EXTRA_FIELDS[name]
    for value in (*field.choices, field.minimum, field.maximum, *field.suggestions, field.default, None, ""):
        ConnectionExtra.model_validate({name: value})


def test_the_choices_are_all_there_are() -> None:
    assert tuple(EXTRA_FIELDS["auth_method"].choices) == get_args(
        ConnectionExtra.model_fields["auth_method"].annotation
    )


def test_a_form_that_was_left_as_it_is_makes_a_connection_with_the_defaults(form: Any) -> None:
    untouched = {name: field["value"] for name, field in form.extra_fields.items()}

    settings = ConnectionSettings.build(application_id="app", secret_key="secret", extra=untouched)

    assert settings.extra == ConnectionExtra()
    assert settings.unknown_extras == ()


def test_before_3_2_the_hook_gives_the_same_form(service: Any, form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 3.0 and 3.1 ask the hook, with these stand-ins for the form libraries that they do not have."""
    fields = SimpleNamespace(BooleanField=service.MockBooleanField, StringField=service.MockStringField)
    monkeypatch.setitem(sys.modules, "wtforms", fields)
    validators = SimpleNamespace(Optional=service.MockOptional, any_of=service.MockEnum)
    monkeypatch.setitem(sys.modules, "wtforms.validators", validators)
    monkeypatch.setitem(sys.modules, "flask_appbuilder", SimpleNamespace())
    widgets = SimpleNamespace(BS3TextFieldWidget=service.MockAnyWidget)
    monkeypatch.setitem(sys.modules, "flask_appbuilder.fieldwidgets", widgets)

    given = {name: widget.param.dump() for name, widget in VoucherifyHook.get_connection_form_widgets().items()}

    def told(fields: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
        return {
            name: (field["schema"]["title"], field["description"], field["value"], field["schema"].get("enum"))
            for name, field in fields.items()
        }

    assert told(given) == told(form.extra_fields)
    behaviour = VoucherifyHook.get_ui_field_behaviour()
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}
    assert behaviour["relabeling"]["login"] == form.standard_fields.login.title


@pytest.mark.skipif(AIRFLOW >= (3, 0), reason="Airflow 3 does not use WTForms; see the tests above")
def test_airflow_2_makes_a_form_of_what_the_hook_gives() -> None:
    from airflow.providers_manager import ProvidersManager
    from werkzeug.datastructures import MultiDict
    from wtforms import Form

    prefix = "extra__voucherify__"
    widgets = ProvidersManager().connection_form_widgets
    fields = {name.removeprefix(prefix): widgets[name].field for name in widgets if name.startswith(prefix)}
    form_class = type("ConnectionForm", (Form,), fields)
    untouched, wrong = form_class(), form_class(MultiDict({"auth_method": "password"}))

    assert {field.name: field.label.text for field in untouched} == {n: f.label for n, f in EXTRA_FIELDS.items()}
    assert ConnectionExtra.model_validate(untouched.data) == ConnectionExtra()
    assert untouched.validate()
    assert not wrong.validate()
    assert set(wrong.errors) == {"auth_method"}


def test_telling_airflow_of_the_provider_imports_next_to_nothing() -> None:
    """Every process of Airflow asks for it, whether or not anything uses Voucherify."""
    script = """
import sys
from importlib.util import find_spec
from airflow_provider_voucherify.get_provider_info import get_provider_info
get_provider_info()
print(sorted({"airflow", "httpx", "msgspec", "pydantic", "wtforms"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


class TestAMistypedExtra:
    def test_is_named_in_a_warning_with_what_was_perhaps_meant(self, caplog: pytest.LogCaptureFixture) -> None:
        extra = {"polling_interval": 5, "token": "value-do-not-print", "timeout": 20}

        settings = ConnectionSettings.build(application_id="app", secret_key="secret", extra=extra)

        assert settings.unknown_extras == ("polling_interval", "token")
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "'polling_interval' (did you mean 'poll_interval'?), 'token'" in record.getMessage()
        assert "it knows auth_method, scope" in record.getMessage()
        assert "do-not-print" not in record.getMessage()

    def test_is_not_warned_of_where_there_is_none(self, caplog: pytest.LogCaptureFixture) -> None:
        ConnectionSettings.build(application_id="app", secret_key="secret", extra={"timeout": 20})

        assert caplog.records == []
