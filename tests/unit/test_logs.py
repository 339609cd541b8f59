"""What stands in the log, of our own modules and of libraries: never a secret."""

from __future__ import annotations

import subprocess
import sys

import pytest

CANARIES = (
    "canary-of-no-shape-1",
    "qgw_abcdefghjkmn_canarycanarycanarycanarycanary2",
    "eyJhbGciOiJub25l.canarycanary3.x",
)

PROGRAM = """
import logging, sys, threading
import structlog
from gateway.config import LogSettings
from gateway.domain.secret import Secret
from gateway.logs import configure_logs

configure_logs(LogSettings(level="debug", format=sys.argv[1]))
secret = Secret(sys.argv[2])
ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
for text in sys.argv[2:]:
    ours.info(f"in the event {text}", field=text, nested={"deep": [text, {text: secret}]}, secret=secret, bound=text.encode())
    theirs.warning("as an argument %s %r", text, {"a": text})
    theirs.info("in extra", extra={"field": text})
    try:
        raise ValueError(f"in the message {text}") from KeyError(text)
    except ValueError as error:
        ours.error("ours_failed", exc_info=error)
        theirs.exception("theirs failed")
    logging.getLogger("grpc._cython.cygrpc").error("Invalid encoding on %s", text)
    logging.getLogger("grpc._cython.cygrpc").error("ExecuteBatchError raised in core by servicer method [%s]", text)
    theirs.info("broken %d", text)

def fail():
    raise RuntimeError(sys.argv[2])

thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_line_of_the_log_has_a_secret(form: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, form, *CANARIES], capture_output=True, text=True, check=False)
    for canary in CANARIES:
        assert canary not in done.stderr
    assert done.stderr.count("uncaught_exception") == 2
    assert done.stderr.count("ours_failed") == len(CANARIES)
    assert "cannot be written" in done.stderr
    assert done.stderr.count("[redacted]") > 10 * len(CANARIES)
    assert "Invalid encoding" not in done.stderr
    assert "ExecuteBatchError" not in done.stderr
