"""`python -m gateway`, and the command `gateway`."""

import sys


def main() -> None:
    """Run the command. Ctrl-C ends it quietly, also while its parts are still being loaded."""
    try:
        from gateway.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
