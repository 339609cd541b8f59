"""The commands `gateway init` and `gateway keys`: who may call the gateway."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

if TYPE_CHECKING:
    from qgateway.v1 import admin_service_pb2, admin_service_pb2_grpc

app = typer.Typer(help="API keys of a running gateway. They are made and revoked by operators.", no_args_is_help=True)

_TIMEOUT = 20.0
_PIPE_WIDTH = 1_000
"""Columns of an output that is no terminal: nothing is wrapped there."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with the settings. Default: the one named by GATEWAY_CONFIG, or none."),
]
Target = Annotated[
    str,
    typer.Option(envvar=["QGATEWAY_TARGET", "GATEWAY_TARGET"], help="HOST:PORT of the gateway.", show_envvar=True),
]
OperatorKey = Annotated[
    str,
    typer.Option(
        "--api-key",
        envvar="QGATEWAY_API_KEY",
        help="Key of an operator. Better in the variable than here. Not needed with an operator's certificate.",
        show_envvar=True,
    ),
]
TlsRoot = Annotated[
    Path | None,
    typer.Option(
        envvar="QGATEWAY_TLS_ROOT", help="PEM file with the authority of the server's certificate: speak TLS."
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(envvar="QGATEWAY_TLS_CERT", help="PEM file with a client certificate. Needs --tls-key."),
]
TlsKey = Annotated[Path | None, typer.Option(envvar="QGATEWAY_TLS_KEY", help="PEM file with its private key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tenant = Annotated[str, typer.Option(help="Whose jobs the bearer sees.")]
Days = Annotated[float | None, typer.Option(min=0, help="Days until the key ends. Default: never.")]
_LOCAL = "127.0.0.1:50051"


def init(
    config_file: ConfigFile = None,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "operator",
    tenant: Tenant = "default",
) -> None:
    """Make the database, and the first key of an operator. The server must not be running.

    The key is printed once, and alone on standard output. With it, 'gateway keys create' makes all others.
    """
    from gateway.config import load_settings

    path = load_settings(config_file).store.path
    key = asyncio.run(_first_key(path, name, tenant))
    typer.echo(f"The first key of an operator in {path}. It cannot be shown again:", err=True)
    typer.echo(key)


@app.command("create")
def create(  # noqa: PLR0917 - options of a command have no positions
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    tenant: Tenant = "default",
    role: Annotated[str, typer.Option(help="viewer, submitter or operator.")] = "submitter",
    days: Days = None,
    target: Target = _LOCAL,
    api_key: OperatorKey = "",
    tls_root: TlsRoot = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed once; the gateway keeps its hash only."""
    from qgateway.v1 import admin_service_pb2

    try:
        number = admin_service_pb2.Role.Value(f"ROLE_{role.upper()}")
    except ValueError:
        raise typer.BadParameter("must be viewer, submitter or operator", param_hint="--role") from None
    wanted = admin_service_pb2.ApiKey(display_name=name, tenant=tenant, roles=[number])
    if days is not None:
        wanted.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    with _admin(target, api_key, tls_root, tls_cert, tls_key) as (stub, call):
        made = stub.CreateApiKey(admin_service_pb2.CreateApiKeyRequest(api_key=wanted), **call)
    if as_json:
        typer.echo(orjson.dumps({**_as_dict(made.api_key), "secret": made.secret}))
        return
    typer.echo(f"{made.api_key.name}, for {name or 'no name'}. It cannot be shown again:", err=True)
    typer.echo(made.secret)


@app.command("list")
def list_keys(  # noqa: PLR0917 - as above
    tenant: Annotated[str, typer.Option(help="Only keys of this tenant.")] = "",
    target: Target = _LOCAL,
    api_key: OperatorKey = "",
    tls_root: TlsRoot = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    as_json: AsJson = False,
) -> None:
    """List the keys, without their secrets."""
    from qgateway.v1 import admin_service_pb2
    from rich.console import Console
    from rich.table import Column, Table

    keys: list[admin_service_pb2.ApiKey] = []
    with _admin(target, api_key, tls_root, tls_cert, tls_key) as (stub, call):
        request = admin_service_pb2.ListApiKeysRequest(tenant=tenant, page_size=500)
        while True:
            page = stub.ListApiKeys(request, **call)
            keys += page.api_keys
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    rows = [_as_dict(key) for key in keys]
    if as_json:
        typer.echo(orjson.dumps(rows))
        return
    # Nothing is cut: the key's name stands on one line, to revoke it by; the rest may take several in a narrow terminal.
    heads = ("for", "tenant", "role", "made", "ends", "last used", "revoked")
    table = Table(Column("key", no_wrap=True), *(Column(head, overflow="fold") for head in heads), box=None)
    for row in rows:
        words, times = list(row.values())[:4], list(row.values())[4:]
        table.add_row(*words, *(str(time or "")[:10] for time in times))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


@app.command("revoke")
def revoke(  # noqa: PLR0917 - as above
    key: Annotated[str, typer.Argument(help="The key's name, apiKeys/ID, or its ID.")],
    target: Target = _LOCAL,
    api_key: OperatorKey = "",
    tls_root: TlsRoot = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    as_json: AsJson = False,
) -> None:
    """End a key at once, with the streams that it opened."""
    from qgateway.v1 import admin_service_pb2

    name = f"apiKeys/{key.removeprefix('apiKeys/')}"
    with _admin(target, api_key, tls_root, tls_cert, tls_key) as (stub, call):
        revoked = stub.RevokeApiKey(admin_service_pb2.RevokeApiKeyRequest(name=name), **call).api_key
    typer.echo(orjson.dumps(_as_dict(revoked)) if as_json else f"{revoked.name} is revoked.")


async def _first_key(path: Path, name: str, tenant: str) -> str:
    from gateway.access.api_keys import KeyRing
    from gateway.access.open_calls import OpenCalls
    from gateway.domain.access import NAME, Caller, Role
    from gateway.engine.api_keys import ApiKeys
    from gateway.store import Store

    if not NAME.fullmatch(tenant):
        raise typer.BadParameter("must be lower-case letters, digits, '-' and '_'", param_hint="--tenant")
    store = await Store.open(path)
    try:
        ring = KeyRing((), store.api_key_key)
        keys = ApiKeys(store, ring, OpenCalls(), store.api_key_key)
        await keys.start()
        if not ring.is_empty:
            typer.echo("There are keys already. An operator makes more with 'gateway keys create'.", err=True)
            raise typer.Exit(1)
        caller = Caller("gateway init", tenant, Role.OPERATOR)
        _, secret = await keys.create(caller, display_name=name, tenant=tenant, role=Role.OPERATOR, expires_at=None)
        return secret.reveal()
    finally:
        await store.close()


@contextmanager
def _admin(
    target: str, api_key: str, tls_root: Path | None, tls_cert: Path | None, tls_key: Path | None
) -> Iterator[tuple[admin_service_pb2_grpc.AdminServiceStub, dict[str, Any]]]:
    """Yield the stub, and what every call of it is given. An error of a call ends the command with its message."""
    import grpc
    from qgateway.v1 import admin_service_pb2_grpc

    if not api_key and tls_cert is None:
        api_key = typer.prompt("Api key", hide_input=True)
    if tls_root is None and tls_cert is None:
        channel = grpc.insecure_channel(target)
    else:
        pem = (path.read_bytes() if path else None for path in (tls_root, tls_key, tls_cert))
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(*pem))
    with channel:
        try:
            metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
            yield admin_service_pb2_grpc.AdminServiceStub(channel), {"metadata": metadata, "timeout": _TIMEOUT}
        except grpc.RpcError as error:
            typer.echo(f"{error.code().name}: {error.details()}", err=True)
            raise typer.Exit(1) from None


def _as_dict(key: admin_service_pb2.ApiKey) -> dict[str, Any]:
    from qgateway.v1 import admin_service_pb2

    def time(field: str) -> str | None:
        return getattr(key, field).ToJsonString() if key.HasField(field) else None  # type: ignore[arg-type]

    return {
        "name": key.name,
        "display_name": key.display_name,
        "tenant": key.tenant,
        "role": ", ".join(admin_service_pb2.Role.Name(role).removeprefix("ROLE_").lower() for role in key.roles),
        "created": time("create_time"),
        "expires": time("expire_time"),
        "last_used": time("last_use_time"),
        "revoked": time("revoke_time"),
    }
