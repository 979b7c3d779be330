"""
``python -m harness.fuzz.run``: atheris mutates inputs of each parser, guided by what they reach in this provider's
code.

``--seconds N`` for each parser (default 30); names of parsers restrict it to them. An input that breaks one is written
to the folder ``.fuzz`` and the command exits with 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

SEEDS = {
    "report": b"source_id,found,updated\r\nc1,true,false\r\n",
    "jsonl": b'{"source_id": "c1", "name": "Ann"}\n',
    "failures_jsonl": b'{"form": "record", "outcome": "failed", "attempts": 2, "history": [{}], "as_text": ["a"]}',
    "csv": b'source_id,name\nc1,"A\nnn"\n',
    "csv_import": b'name,source_id\nAnn,c1\n"B",c2\n',
    "answers": b'{"id": "aa_1", "status": "DONE", "result": {"done_count": 1, "errors": [{"source_id": "c1"}]}}',
    "rate_limit_headers": b"100\n99\n1790000000\n30\nSat, 21 Nov 2026 11:00:00 GMT",
    "state_file": b'{"format": "voucherify-sync-state", "version": 1,'
    b' "resource": "customers", "sync": "sync", "sha256": "00"}\nSQLite',
}


def main() -> int:
    """Fuzz each parser in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("parsers", nargs="*", metavar="parser", help=", ".join(SEEDS))
    arguments = parser.parse_args()
    broken = []
    for name in arguments.parsers or SEEDS:
        corpus = Path(".fuzz", name)
        corpus.mkdir(parents=True, exist_ok=True)
        (corpus / "seed").write_bytes(SEEDS[name])
        limits = [f"-max_total_time={arguments.seconds}", "-timeout=10", "-rss_limit_mb=1024", "-max_len=20000"]
        command = [sys.executable, "-m", "harness.fuzz.run", "--one", name, f"-artifact_prefix=.fuzz/{name}-", *limits]
        done = subprocess.run([*command, str(corpus)], stderr=subprocess.PIPE, text=True, check=False)
        last = [line for line in done.stderr.splitlines() if "exec/s" in line or line.startswith("Done")][-1:]
        print(f"{name}: {'held' if done.returncode == 0 else 'BROKEN'}  {''.join(last)}", flush=True)
        if done.returncode != 0:
            print(done.stderr[-3_000:], file=sys.stderr)
            broken.append(name)
    return 1 if broken else 0


def one(name: str, arguments: list[str]) -> None:
    """Fuzz one parser in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["airflow_provider_voucherify"]):
        from harness.fuzz.parsers import PARSERS

    atheris.Setup([sys.argv[0], *arguments], PARSERS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
