"""Stories about starting and stopping: in a thread, as a process of its own, and as a pytest fixture."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from airflow_provider_voucherify.local_voucherify import Delay, LocalVoucherify

ROOT = Path(__file__).resolve().parents[2]


def _is_listening(url):
    with socket.socket() as probe:
        return probe.connect_ex((httpx.URL(url).host, httpx.URL(url).port)) == 0


def _call_in_vain(url):
    with pytest.raises(httpx.HTTPError):
        httpx.get(url)


def test_leaving_the_block_ends_thread_and_sockets():
    with LocalVoucherify(report_host="separate") as server:
        assert server.base_url.startswith("http://127.0.0.1:")
        assert _is_listening(server.base_url)

    assert not _is_listening(server.base_url)
    assert "local-voucherify" not in {thread.name for thread in threading.enumerate()}


def test_stopping_does_not_wait_for_late_answers():
    with LocalVoucherify() as server:
        server.misbehave("/", Delay(60))
        caller = threading.Thread(target=_call_in_vain, args=(server.base_url,))
        caller.start()
        while not server.received:
            time.sleep(0.01)
        started = time.monotonic()

    caller.join()
    assert time.monotonic() - started < 2


def test_many_servers_run_side_by_side():
    with LocalVoucherify() as one, LocalVoucherify() as other:
        one.add_voucher("A")

        assert one.base_url != other.base_url
        assert not other.vouchers


def test_a_misspelt_choice_is_refused():
    with pytest.raises(ValueError, match="result_shape must be one of"):
        LocalVoucherify(result_shape="old")


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open():
    with LocalVoucherify() as server:
        second = LocalVoucherify(port=httpx.URL(server.base_url).port)
        with pytest.raises(OSError, match="in use"):
            second.start()
        second.stop()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_its_url_takes_options_and_ends_on_a_signal(tmp_path, ending):
    codes, schemas = tmp_path / "codes.txt", tmp_path / "schemas.json"
    codes.write_text("A\nB\n")
    schemas.write_text(json.dumps({"customers": {"properties": {}, "allow_defined_only": True}}))
    command = [sys.executable, "-m", "airflow_provider_voucherify.local_voucherify", "--app-id", "me"]
    command += ["--api-calls", "7/60", "--no-store-records", "--vouchers-file", codes, "--metadata-schemas", schemas]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        key = {"X-App-Id": "me", "X-App-Token": "local-secret-key"}
        voucher = httpx.get(f"{url}/v1/vouchers/B", headers=key)
        schema = httpx.get(f"{url}/v1/metadata-schemas/customer", headers=key)
        process.send_signal(ending)
        rest_of_output, errors = process.communicate(timeout=5)

    assert (process.returncode, rest_of_output, errors) == (0, "", "")
    assert (voucher.json()["code"], voucher.headers["x-rate-limit-limit"]) == ("B", "7")
    assert schema.json()["allow_defined_only"] is True


def test_the_fixture_gives_each_test_a_server_of_its_own(tmp_path):
    (tmp_path / "test_shop.py").write_text(
        "import pytest\n"
        "@pytest.mark.local_voucherify(app_id='me')\n"
        "def test_one(local_voucherify):\n"
        "    assert local_voucherify.base_url and local_voucherify.options.app_id == 'me'\n"
        "def test_other(local_voucherify):\n"
        "    assert local_voucherify.options.app_id == 'local-app-id'\n"
    )
    plugin = "airflow_provider_voucherify.local_voucherify.pytest_fixture"
    arguments = ["-q", "--strict-markers", "-W", "error", "-p", "no:cacheprovider", "-p", plugin]
    environment = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, tmp_path], env=environment, capture_output=True, text=True
    )

    assert "2 passed" in finished.stdout, finished.stdout + finished.stderr
