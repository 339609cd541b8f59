"""The command `qgateway`: jobs and backends of a gateway, for people and for scripts."""

import os
import sys


def main() -> None:
    """Run the command with the arguments of the process."""
    # gRPC writes to standard error by itself; what a person has to know is in the errors of the calls.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        from qgateway.cli.app import app

        app()
    except KeyboardInterrupt:  # before there was a command to be told
        sys.exit(130)
