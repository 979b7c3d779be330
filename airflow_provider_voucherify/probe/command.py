"""The command line: ``airflow voucherify probe``, and ``python -m airflow_provider_voucherify.probe``."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_voucherify.sync.types.text import counted

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.settings import ConnectionSettings
    from airflow_provider_voucherify.probe.rounds import Own
    from airflow_provider_voucherify.probe.run import Pace, Run

MAX_CALLS = 80
"""A sandbox project has 100 calls an hour (documentation/guides/limits.mdx)."""

_HELP = "ask a Voucherify sandbox what its documents leave open"
_FLAGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--conn-id", {"default": "voucherify_default", "help": "connection of a sandbox project"}),
    ("--yes", {"action": "store_true", "help": "do it; without, it only says what it would do"}),
    ("--output", {"default": "observed.json", "help": "file to write the answers to"}),
    ("--max-calls", {"type": int, "default": MAX_CALLS, "help": f"API calls to make at most, up to {MAX_CALLS}"}),
    ("--patience", {"type": float, "default": 120.0, "help": "seconds that a call may wait for a rate limit"}),
    ("--other-region", {"help": "region (eu, us1, as1) or base URL that the project is not in, for one call"}),
    ("--allow-production", {"action": "store_true", "help": "go on if the project looks like production"}),
)


def get_cli_commands() -> list[Any]:
    """Return the commands of this provider, for Airflow 3.2 and later (``cli`` of the provider's metadata)."""
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    flags = tuple(Arg((flag,), **settings) for flag, settings in _FLAGS)  # type: ignore[no-untyped-call]
    probe = ActionCommand(name="probe", help=_HELP, func=_run, args=flags)
    return [GroupCommand(name="voucherify", help="Voucherify", subcommands=(probe,))]


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the probe, and end the process with a status: 0 if it was run, 1 if not, 130 if it was interrupted.

    :param arguments: command-line arguments, None for those of the process.
    """
    _run(parser().parse_args(arguments))


def parser() -> ArgumentParser:
    """Return the parser of the command line without Airflow's."""
    flags = ArgumentParser(prog="python -m airflow_provider_voucherify.probe", description=_HELP)
    for flag, settings in _FLAGS:
        flags.add_argument(flag, **settings)
    return flags


def _run(arguments: Namespace) -> None:
    from airflow_provider_voucherify.hooks.voucherify import stored_settings
    from airflow_provider_voucherify.models.errors import VoucherifyError

    try:
        status = probe(stored_settings(arguments.conn_id), arguments)
    except VoucherifyError as error:
        print(error, file=sys.stderr)
        status = 1
    if status:
        raise SystemExit(status)


def probe(settings: ConnectionSettings, arguments: Namespace, pace: Pace | None = None) -> int:
    """
    Probe a project, print the answers and write them to a file.

    :param settings: of the connection.
    :param arguments: what the command line gives.
    :param pace: how long to wait for what takes time; None for the usual.
    :returns: the status of the process.
    """
    from airflow_provider_voucherify.probe.production import signs_in_name

    if not arguments.yes:
        print("\n".join(_plan(settings, arguments)))
        return 1
    if not arguments.allow_production and (signs := list(signs_in_name(settings))):
        return _refuse(signs)
    if not os.access(Path(arguments.output).resolve().parent, os.W_OK):
        print(f"{arguments.output} cannot be written", file=sys.stderr)
        return 1
    with _interrupted_by_signals():
        return _probe(settings, arguments, pace)


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT do what Ctrl-C does, also where a shell has let SIGINT be ignored: records are removed."""
    if current_thread() is not main_thread():
        yield
        return
    before = {one: signal.signal(one, signal.default_int_handler) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _probe(settings: ConnectionSettings, arguments: Namespace, pace: Pace | None) -> int:
    from airflow_provider_voucherify.probe.counting import Counter, CountingClient
    from airflow_provider_voucherify.probe.facts import Answered
    from airflow_provider_voucherify.probe.production import signs_in_answer
    from airflow_provider_voucherify.probe.rounds import new_rounds
    from airflow_provider_voucherify.probe.run import Pace, Run

    counter = Counter(min(arguments.max_calls, MAX_CALLS))
    with CountingClient(settings, counter, arguments.patience) as client:
        run = Run(client, new_rounds(), pace or Pace(), _other_region(settings, arguments.other_region))
        first = run.first_call()
        if not isinstance(first, Answered) or first.refused:
            print(f"the connection does not work: {first}", file=sys.stderr)
            return 1
        if not arguments.allow_production and (signs := list(signs_in_answer(first, client.limits))):
            return _refuse(signs)
        interrupted = False
        try:
            run.ask()
        except KeyboardInterrupt:
            interrupted = True
            print("interrupted; removing what was made", file=sys.stderr)
        finally:
            left = run.remove()
            _tell_left(left, run.still_running)
        _publish(settings, arguments.output, run, counter.sent, left)
    return 130 if interrupted else 0


def _publish(settings: ConnectionSettings, output: str, run: Run, calls: int, left: list[Own]) -> None:
    from airflow_provider_voucherify.probe.questions import QUESTIONS
    from airflow_provider_voucherify.probe.writing import observed, table, without_secrets

    answers = [(question, question.answer(run.facts)) for question in QUESTIONS]
    print(without_secrets(table(answers), settings))
    content = observed(answers, run.facts, settings, calls=calls, left=left)
    Path(output).write_text(content, encoding="utf-8")
    made = counted(calls, "call was", "calls were")
    print(f"\n{made} made. The answers are in {output}, without credentials; please send it to us.")


def _plan(settings: ConnectionSettings, arguments: Namespace) -> Iterator[str]:
    from airflow_provider_voucherify.probe.questions import QUESTIONS
    from airflow_provider_voucherify.probe.rounds import new_rounds

    region = _other_region(settings, arguments.other_region)
    records = {own for one in new_rounds() for own in one.own}
    yield f"Nothing was done. With --yes the probe asks the project at {settings.base_url}:"
    yield from (f"- {question.name} ({question.asked})" for question in QUESTIONS)
    yield f"It makes at most {counted(min(arguments.max_calls, MAX_CALLS), 'API call')}, and takes some minutes."
    yield f"It creates up to {len(records)} records whose ids begin with probe- and a random number, and removes them."
    if region is not None:
        yield f"One of the calls goes to {region}, with the same credentials."


def _other_region(settings: ConnectionSettings, given: str | None) -> str | None:
    """
    Return the base URL of the region that is to be asked although the project is not in it; None for none.

    :raises VoucherifyConfigurationError: credentials must not be sent there.
    """
    from airflow_provider_voucherify.client.settings import ConnectionSettings
    from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError

    if given is None:
        return None
    key = settings.secret_key.get_secret_value()
    url = ConnectionSettings.build(application_id=settings.application_id, secret_key=key, host=given).base_url
    host = urlsplit(url).hostname or ""
    if host != urlsplit(settings.base_url).hostname and not host.endswith(".voucherify.io"):
        raise VoucherifyConfigurationError(f"{given!r} is no region of Voucherify's: credentials are not sent there")
    return url


def _refuse(signs: list[str]) -> int:
    print(f"This looks like production: {'; '.join(signs)}. --allow-production goes on all the same.", file=sys.stderr)
    return 1


def _tell_left(left: list[Own], still_running: list[str]) -> None:
    """Say what has to be removed by hand."""
    if still_running:
        print("Some updates had not finished, and may bring records back: remove those of the prefix.", file=sys.stderr)
    for own in left:
        print(f"could not be removed: {own.resource} {own.id}", file=sys.stderr)
