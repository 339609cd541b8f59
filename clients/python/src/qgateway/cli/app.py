"""The typer app: its commands, and the options that stand before them."""

from __future__ import annotations

from typing import Annotated

import typer

from qgateway.cli import backends, jobs, results, submit, usage, watching
from qgateway.cli.exits import EXIT_CODES_HELP
from qgateway.cli.session import CommonOptions, Json, NoColor, Target, command

# Exceptions are not shown with their local variables: an API key may be among them.
app = typer.Typer(
    name="qgateway",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES_HELP,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"qgateway {version('qgateway')}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    target: Target = None,
    json: Json = False,
    no_color: NoColor = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Run circuits through a quantum job gateway, and follow what becomes of them.

    The gateway and the key come from QGATEWAY_TARGET and QGATEWAY_API_KEY (or QGATEWAY_API_KEY_FILE); TLS from QGATEWAY_TLS (auto,
    on, off), QGATEWAY_TLS_ROOT, QGATEWAY_TLS_CERT, QGATEWAY_TLS_KEY and QGATEWAY_TLS_SERVER_NAME. A job is named by its id, with
    or without `jobs/` before it. Common options may also stand after the command.
    """
    context.obj = CommonOptions(target=target, json=json, no_color=no_color)


for function in (
    submit.run,
    jobs.jobs,
    jobs.show,
    watching.watch,
    results.result,
    jobs.cancel,
    jobs.tag,
    jobs.rename,
    jobs.delete,
    backends.backends,
    backends.backend,
    backends.server,
    usage.usage,
):
    command(app)(function)
