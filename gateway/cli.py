"""The command `gateway`: for those who run the server."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway import __version__
from gateway.audit_cli import app as audit
from gateway.credentials.cli import app as credentials
from gateway.keys_cli import app as keys
from gateway.keys_cli import init

app = typer.Typer(
    name="gateway",
    help="Run the quantum job gateway.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
config = typer.Typer(help="The configuration.", no_args_is_help=True)
policy = typer.Typer(help="The policy: what each tenant may use.", no_args_is_help=True)
app.command()(init)
app.add_typer(keys, name="keys")
app.add_typer(config, name="config")
app.add_typer(policy, name="policy")
app.add_typer(audit, name="audit")
app.add_typer(credentials, name="credentials")  # its settings: see `_credential_defaults`

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with the settings. Default: the one named by GATEWAY_CONFIG, or none."),
]


def main() -> None:
    """Run the command; what cannot work as it is set up ends it with exit code 2 and one message."""
    try:
        _run_command()
    except KeyboardInterrupt:  # before there was a command to be told
        sys.exit(130)


def _run_command() -> None:
    from gateway.access.policy import PolicyError
    from gateway.config import ConfigError
    from gateway.credentials.errors import CredentialError
    from gateway.store import StoreUnusable

    try:
        app()
    except (ConfigError, CredentialError, PolicyError, StoreUnusable) as error:
        typer.echo(str(error), err=True)
        sys.exit(2)


@app.command()
def serve(
    config_file: ConfigFile = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT to listen on; port 0 takes a free one.")] = None,
    dev: Annotated[
        bool,
        typer.Option(
            "--dev",
            help="Try it out: loopback only, a random API key for this run, and a database that is deleted at the end "
            "(unless GATEWAY_STORE__PATH is set).",
        ),
    ] = False,
) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    # The server starts processes only to run another program in them; gRPC need not prepare for anything else.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    # gRPC writes to standard error by itself, past all redaction, and some of it is what a stranger has sent.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from gateway.config import load_settings
    from gateway.logs import configure_logs
    from gateway.server import serve as serve_settings

    with ExitStack() as cleanup:
        overrides: dict[str, Any] = {}
        api_key = _dev_overrides(overrides, cleanup) if dev else None
        if listen is not None:
            overrides.setdefault("server", {})["listen"] = listen
        settings = load_settings(config_file, **overrides)
        if dev:
            _check_dev(settings.server.listen)
        configure_logs(settings.log)

        def on_ready(port: int) -> None:
            if api_key is not None:
                host = settings.server.listen.rpartition(":")[0]
                # Lines that a shell can take over as they are.
                typer.echo(f"QGATEWAY_TARGET={host}:{port}\nQGATEWAY_API_KEY={api_key}")
                sys.stdout.flush()

        _run(serve_settings(settings, on_ready))
    # All that matters is stored and closed. A thread that hangs in a call to a provider must not hold up the end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@app.command()
def health(
    target: Annotated[
        str, typer.Option(envvar="GATEWAY_HEALTH_TARGET", help="HOST:PORT of the server.")
    ] = "127.0.0.1:50051",
    service: Annotated[
        str, typer.Option(help="Service, such as qgateway.v1.JobService or account/NAME. Default: the server.")
    ] = "",
    tls_root: Annotated[
        Path | None, typer.Option(help="PEM file with the authority of the server's certificate: speak TLS.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 5.0,
) -> None:
    """Ask a running server how it is. Exit code 0 if it serves, else 1.

    A server with TLS is best asked on the address of its setting server.health_listen.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    if tls_root is None:
        channel = grpc.insecure_channel(target)
    else:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(tls_root.read_bytes()))
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout
            )
            status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        except grpc.RpcError as error:
            status = f"{error.code().name}: {error.details() or 'the server has no such service'}"
    typer.echo(status)
    raise typer.Exit(0 if status == "SERVING" else 1)


@keys.command("generate")
def generate_key(
    name: Annotated[str, typer.Option(help="Who will bear the key.")],
    tenant: Annotated[str, typer.Option(help="Whose jobs the bearer sees.")] = "default",
    role: Annotated[str, typer.Option(help="viewer, submitter or operator.")] = "submitter",
) -> None:
    """Make an API key for the configuration.

    Prints the key, for its bearer, and the lines for the configuration, which hold only its hash.
    """
    from gateway.access.api_keys import hash_api_key, new_api_key
    from gateway.config import load_settings

    key = new_api_key()
    entry = {"name": name, "tenant": tenant, "role": role, "sha256": hash_api_key(key)}
    load_settings(access={"api_keys": [entry]})
    typer.echo(f"# For {name}, and nobody else; it cannot be shown again:\n# {key}\n")
    typer.echo("[[access.api_keys]]")
    for field, value in entry.items():
        typer.echo(f'{field} = "{value}"')


@config.command("check")
def check_config(config_file: ConfigFile = None) -> None:
    """Check the configuration without starting the server. Exit code 2 if it is wrong."""
    from gateway.access.policy import read_policy
    from gateway.config import load_settings
    from gateway.server import server_certificate

    settings = load_settings(config_file)
    server_certificate(settings.server.tls)
    for key in settings.access.api_keys:
        key.load()
    if settings.access.policy is not None:
        read_policy(settings.access.policy, settings.accounts)
    typer.echo("The configuration is right.")


@policy.command("check")
def check_policy(
    file: Annotated[
        Path | None, typer.Argument(help="The policy. Default: the one of the setting access.policy.")
    ] = None,
    config_file: ConfigFile = None,
) -> None:
    """Check a policy, before or while a server uses it. Exit code 2 if it is wrong."""
    from gateway.access.policy import read_policy
    from gateway.config import ConfigError, load_settings

    settings = load_settings(config_file)
    path = file or settings.access.policy
    if path is None:
        raise ConfigError("There is no policy: name a file, or set access.policy.")
    tenants = ", ".join(read_policy(path, settings.accounts).tenants) or "none"
    typer.echo(f"The policy is right. Tenants with a table of their own: {tenants}.")


@config.command("reference")
def config_reference() -> None:
    """Print every setting with its meaning and default, as Markdown."""
    from gateway.config_reference import reference

    typer.echo(reference(), nl=False)


@credentials.callback()
def _credential_defaults(context: typer.Context, config_file: ConfigFile = None) -> None:
    """Let the commands find the sealed file and its key where the server finds them."""
    from gateway.config import load_settings

    if config_file is None and "GATEWAY_CONFIG" not in os.environ:
        return  # the variables of single settings are known to the options themselves
    settings = load_settings(config_file).credentials
    defaults = {"file": settings.sealed_file, "key_file": settings.seal_key_file}
    context.default_map = dict.fromkeys(("set", "list", "check", "rotate", "remove"), defaults)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _dev_overrides(overrides: dict[str, Any], cleanup: ExitStack) -> str:
    from gateway.access.api_keys import hash_api_key, new_api_key

    key = new_api_key()
    overrides["access"] = {
        "api_keys": [{"name": "dev", "tenant": "dev", "role": "operator", "sha256": hash_api_key(key)}]
    }
    if "GATEWAY_STORE__PATH" not in os.environ:
        from gateway.store import temporary_folder

        folder = cleanup.enter_context(temporary_folder("qgateway-dev-"))
        overrides["store"] = {"path": folder / "qgateway.db"}
    return key


def _check_dev(listen: str) -> None:
    from gateway.config import ConfigError, is_loopback

    if not is_loopback(listen):
        raise ConfigError(f"--dev listens on loopback only, not on {listen}: its key is printed for all to see.")


def _run(main: Any) -> None:
    """Run the server to its end. After a good one the event loop stays open: to close it is to wait for all threads."""
    import asyncio

    new_event_loop: Any
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    runner = asyncio.Runner(loop_factory=new_event_loop)
    try:
        runner.run(main)
    except BaseException:
        runner.close()
        raise
