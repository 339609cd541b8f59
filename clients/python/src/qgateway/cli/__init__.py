"""The command `qgateway`: jobs and backends of a gateway, for people and for scripts."""


def main() -> None:
    """Run the command with the arguments of the process."""
    from qgateway.cli.app import app

    app()
