"""Runs commands of NLDS' unmodified client, in the environment of that client: `python -S nlds_driver.py`.

Each line of standard input is a request as JSON, `{"folder", "words"}` for a command line or `{"folder", "wait"}` for
the end of a transaction; each line of standard output is its answer. The client is imported once. Every request is
carried out in a process forked for it, as the client keeps the tags of earlier commands.
"""

import json
import os
import sys
import time
from typing import Any

from click.testing import CliRunner  # type: ignore[import-not-found,unused-ignore]  # in the client's environment
from nlds_client.clientlib import transactions  # type: ignore[import-not-found]  # in the client's environment
from nlds_client.nlds_client import nlds_client  # type: ignore[import-not-found]  # in the client's environment

#: The time for which an unfinished transaction is asked for again, and the final states.
_SECONDS = 60.0
_ENDED = {"COMPLETE", "FAILED", "COMPLETE_WITH_ERRORS", "COMPLETE_WITH_WARNINGS"}


def run(words: list[str]) -> dict[str, Any]:
    """Run a command line of `nlds`."""
    done = CliRunner().invoke(nlds_client, words, prog_name="nlds")
    if done.exception and not isinstance(done.exception, SystemExit):
        return {"code": -1, "text": repr(done.exception)}
    return {"code": done.exit_code, "text": done.output}


def wait(transaction: str) -> dict[str, Any]:
    """Return a transaction when it has ended, by the client's own rule."""
    deadline = time.monotonic() + _SECONDS
    while True:
        found = transactions.monitor_transactions(None, None, transaction_id=transaction)
        [record] = found["data"]["records"]
        state, _time, percent = transactions.get_transaction_state(record)
        if state in _ENDED or time.monotonic() > deadline:
            failed = [each for part in record["sub_records"] for each in part["failed_files"]]
            reasons = {each["filepath"]: each["reason"] for each in failed}
            return {"state": state, "percent": percent, "failed": reasons, "record": record}
        time.sleep(0.01)


def main() -> None:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        os.chdir(request["folder"])
        answer = run(request["words"]) if "words" in request else wait(request["wait"])
        os.write(1, json.dumps(answer).encode() + b"\n")
        os._exit(0)


if __name__ == "__main__":
    main()
