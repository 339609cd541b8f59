"""The commands `gateway credentials`: the secrets in the gateway's sealed file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from gateway.credentials.errors import CredentialError

if TYPE_CHECKING:
    from gateway.credentials.seal_key import SealKey
    from gateway.credentials.sealed_file import SealedFile
    from gateway.domain.secret import Secret


class _Commands(TyperGroup):
    """Ends a command whose credentials cannot be used with exit code 2 and one message."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CredentialError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    help="Secrets in the gateway's sealed file. The file, and the file with its key, are those of the server's settings "
    "credentials.sealed_file and credentials.seal_key_file; the key can also be in the variable GATEWAY_SEAL_KEY.",
    cls=_Commands,
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name of the entry.")]
SealedPath = Annotated[
    Path,
    typer.Option("--file", envvar="GATEWAY_CREDENTIALS__SEALED_FILE", help="The sealed file.", show_envvar=True),
]
KeyPath = Annotated[
    Path | None, typer.Option("--key-file", help="File with the key of the sealed file: 32 bytes in base64.")
]
_DEFAULT = Path("credentials.sealed")


@app.command("set")
def set_secret(name: Name, file: SealedPath = _DEFAULT, key_file: KeyPath = None) -> None:
    """Keep a secret, in place of the one before. It is asked for without echo, or read from standard input."""
    from gateway.credentials.errors import SealedFileMissing
    from gateway.credentials.sealed_file import SealedFile

    key = _load_key(key_file)
    try:
        sealed = SealedFile.open(file, key)
    except SealedFileMissing:
        sealed = SealedFile.create(file, key)
    entry = sealed.set(name, _ask_secret(name))
    typer.echo(f"{entry.name} is at version {entry.version}.")


@app.command("list")
def list_secrets(file: SealedPath = _DEFAULT, key_file: KeyPath = None) -> None:
    """Show names, versions and dates; never a secret."""
    rows = [("NAME", "VERSION", "CREATED", "CHANGED")]
    rows += [
        (entry.name, str(entry.version), f"{entry.created_at:%Y-%m-%d %H:%M}Z", f"{entry.changed_at:%Y-%m-%d %H:%M}Z")
        for entry in _open(file, key_file).list()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("check")
def check_secrets(file: SealedPath = _DEFAULT, key_file: KeyPath = None) -> None:
    """Open every entry. Exit code 2 if one cannot be opened."""
    sealed = _open(file, key_file)
    entries = sealed.list()
    for entry in entries:
        sealed.get(entry.name)
    typer.echo(f"{file}: {_count(len(entries))}, all readable.")


@app.command("rotate")
def rotate_key(
    new_key_file: Annotated[
        Path, typer.Option(help="File with the new key. If there is no such file, it is made, with a random key.")
    ],
    file: SealedPath = _DEFAULT,
    key_file: KeyPath = None,
) -> None:
    """Seal all entries with a new key. From then on the old one opens nothing."""
    from gateway.credentials.files import create_file
    from gateway.credentials.seal_key import SealKey

    sealed = _open(file, key_file)
    if not new_key_file.exists():
        try:
            create_file(new_key_file, f"{SealKey.generate().reveal()}\n".encode())
        except OSError as error:
            raise CredentialError(f"Cannot write {new_key_file}: {error.strerror}.") from None
    number = sealed.rotate(_load_key(new_key_file))
    typer.echo(f"{file}: {_count(number)} sealed with the key in {new_key_file}. Give that key to the gateway now.")


@app.command("remove")
def remove_secret(
    name: Name,
    file: SealedPath = _DEFAULT,
    key_file: KeyPath = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a secret."""
    sealed = _open(file, key_file)
    if not yes:
        typer.confirm(f"Remove {name} from {file}?", abort=True)
    sealed.remove(name)
    typer.echo(f"{name} is removed.")


def _load_key(key_file: Path | None) -> SealKey:
    from gateway.credentials.seal_key import SealKey
    from gateway.credentials.sources import seal_key_source

    return SealKey(asyncio.run(seal_key_source(key_file).load()))


def _open(file: Path, key_file: Path | None) -> SealedFile:
    from gateway.credentials.sealed_file import SealedFile

    return SealedFile.open(file, _load_key(key_file))


def _ask_secret(name: str) -> Secret:
    from gateway.domain.secret import Secret

    text = _prompt(name) if sys.stdin.isatty() else sys.stdin.read()
    if not (text := text.strip()):
        raise CredentialError("The secret is empty: nothing was changed.")
    return Secret(text)


def _prompt(name: str) -> str:
    return str(typer.prompt(f"Secret for {name}", hide_input=True, confirmation_prompt=True))


def _count(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"
