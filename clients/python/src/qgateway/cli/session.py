"""What all commands share: their common options, the connection, and how an error ends them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qgateway._errors import GatewayCallError
from qgateway._settings import ConnectionSettings, SettingsError
from qgateway.cli.exits import CommandError, ExitCode, exit_code_of
from qgateway.cli.output import Output

if TYPE_CHECKING:
    from qgateway._connection import Connection

_PANEL = "Common options"

Target = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="HOST:PORT", help="The gateway. Default: QGATEWAY_TARGET.", rich_help_panel=_PANEL
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_PANEL)]
NoColor = Annotated[
    bool, typer.Option("--no-color", help="Print without colours, as with NO_COLOR set.", rich_help_panel=_PANEL)
]


@dataclass(frozen=True, slots=True)
class CommonOptions:
    """The options that stand before a command or after it."""

    target: str | None = None
    json: bool = False
    no_color: bool = False

    def overlaid(self, other: CommonOptions) -> CommonOptions:
        """Return these options with those that `other` sets."""
        return CommonOptions(other.target or self.target, self.json or other.json, self.no_color or other.no_color)


_COMMON_PARAMETERS = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    for name, default, annotation in (("target", None, Target), ("json", False, Json), ("no_color", False, NoColor))
]


class Session:
    """One run of a command: its output, and the connection to the gateway, made when it is first used.

    Args:
        options: The common options.
    """

    def __init__(self, options: CommonOptions) -> None:
        self._options = options
        self.output = Output(as_json=options.json, color=not options.no_color)

    @cached_property
    def connection(self) -> Connection:
        """The connection, by the options and the environment."""
        from qgateway._connection import Connection

        return Connection(ConnectionSettings.from_environment(target=self._options.target))

    def close(self) -> None:
        """End the connection, if one was made."""
        if "connection" in self.__dict__:
            self.connection.close()


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function a command of an app.

    The function takes the `Session` first, then its own options as typer describes them; the common options are added to them. An
    error that a user can cause is printed and becomes an exit code.

    Args:
        app: The app.
        name: Name of the command. Default: the function's.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(context: typer.Context, **arguments: Any) -> None:
            own = CommonOptions(**{each.name: arguments.pop(each.name) for each in _COMMON_PARAMETERS})
            session = Session(context.obj.overlaid(own))
            with _errors_become_exit_codes(session.output):
                _refuse_what_is_no_text(arguments)
                try:
                    function(session, **arguments)
                finally:
                    session.close()

        signature = inspect.signature(function, eval_str=True)
        own_parameters = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in list(signature.parameters.values())[1:]
        ]
        context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        parameters = [context, *own_parameters, *_COMMON_PARAMETERS]
        del run.__dict__["__wrapped__"]  # its signature is not the one that typer is to read
        run.__dict__["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command(name)(run)
        return function

    return register


@contextmanager
def _errors_become_exit_codes(output: Output) -> Iterator[None]:
    """Print an error that a user can cause, and end with its exit code."""
    try:
        yield
    except GatewayCallError as error:
        output.error(error.diagnostics())
        raise typer.Exit(exit_code_of(error.code, error.reason)) from None
    except CommandError as error:
        output.error(str(error))
        raise typer.Exit(error.code) from None
    except SettingsError as error:
        output.error(str(error))
        raise typer.Exit(ExitCode.USAGE) from None
    except TimeoutError as error:
        output.error(str(error))
        raise typer.Exit(ExitCode.UNAVAILABLE) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _refuse_what_is_no_text(arguments: dict[str, Any]) -> None:
    """Refuse bytes on the command line that are no UTF-8: no message can hold them."""
    for name, value in arguments.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
                raise CommandError(f"{name}: this is not text in UTF-8: {text!r}.")


def up_to(most: int) -> Callable[[int | None], int | None]:
    """Return a check for an option that takes a number: at most so much, else the request cannot hold it."""

    def check(value: int | None) -> int | None:
        if value is not None and abs(value) > most:
            raise typer.BadParameter(f"{value} is more than {most}.")
        return value

    return check


def job_name(job: str) -> str:
    """Return the resource name of a job that was given by its id or by its resource name."""
    return job if "/" in job else f"jobs/{job}"


def job_id(name: str) -> str:
    """Return the id at the end of a job's resource name."""
    return name.rpartition("/")[2]
