import os
import pty
import secrets
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import pytest

from gateway.credentials.seal_key import SealKey
from gateway.credentials.sealed_file import SealedFile
from gateway.domain.secret import Secret

_PROGRAM = (sys.executable, "-c", "from gateway.credentials.cli import app; app(prog_name='gateway credentials')")


@dataclass
class Result:
    code: int
    out: str
    err: str


@dataclass
class Command:
    """The command as a process of its own, with a sealed file and its key."""

    folder: Path
    key: Secret

    @property
    def path(self) -> Path:
        return self.folder / "credentials.sealed"

    @property
    def file(self) -> SealedFile:
        return SealedFile(self.path, SealKey(self.key))

    def environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        return plain | {"GATEWAY_CREDENTIALS__SEALED_FILE": str(self.path), "GATEWAY_SEAL_KEY": self.key.reveal()}

    def run(self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Result:
        done = subprocess.run(
            [*_PROGRAM, *arguments],
            check=False,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment() if environment is None else environment,
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, SealKey.generate())


def test_a_secret_from_standard_input_is_kept_and_never_shown(command: Command) -> None:
    value = secrets.token_urlsafe(24)
    results = [
        command.run("set", "ibm-eu", stdin=f"{value}\n"),
        command.run("set", "ibm-eu", stdin=value),
        command.run("list"),
        command.run("check"),
    ]
    assert [result.code for result in results] == [0] * 4
    assert [result.out for result in results[:2]] == ["ibm-eu is at version 1.\n", "ibm-eu is at version 2.\n"]
    head, row = results[2].out.splitlines()
    assert head.split() == ["NAME", "VERSION", "CREATED", "CHANGED"]
    assert row.split()[:2] == ["ibm-eu", "2"]
    assert "1 entry, all readable" in results[3].out
    assert command.file.get("ibm-eu").reveal() == value
    assert not any(value in result.out + result.err for result in results)


def _type_into(command: Command, *answers: str) -> tuple[int, str]:
    """Run `set` at a terminal, type the answers, and return exit code and all that the terminal showed."""
    ours, theirs = pty.openpty()
    with open(ours, "r+b", buffering=0) as screen, open(theirs, "r+b", buffering=0) as terminal:  # noqa: PTH123
        process = subprocess.Popen(
            [*_PROGRAM, "set", "ibm-eu"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=command.environment(),
            start_new_session=True,
        )
        terminal.close()
        try:
            shown = _converse(screen, list(answers))
            return process.wait(timeout=20), shown
        finally:
            process.kill()
            process.wait()


def _converse(screen: FileIO, answers: list[str]) -> str:
    shown = b""
    while select.select([screen], [], [], 20)[0]:
        try:
            part = screen.read(1024)
        except OSError:  # how Linux tells the end of a terminal
            break
        if not part:
            break
        shown += part
        # The echo is off when the space behind the question's colon has come.
        if answers and shown.endswith(b": "):
            screen.write(f"{answers.pop(0)}\n".encode())
    return shown.decode()


def test_at_a_terminal_the_secret_is_asked_for_without_echo(command: Command) -> None:
    value = secrets.token_urlsafe(24)
    code, shown = _type_into(command, value, value)
    assert code == 0, shown
    assert "Secret for ibm-eu:" in shown
    assert value not in shown
    assert command.file.get("ibm-eu").reveal() == value


def test_a_secret_is_never_taken_from_an_argument(command: Command) -> None:
    result = command.run("set", "ibm-eu", secrets.token_urlsafe(24))
    assert result.code == 2
    assert not command.path.exists()


def test_an_empty_secret_changes_nothing(command: Command) -> None:
    command.run("set", "ibm-eu", stdin="x")
    result = command.run("set", "ibm-eu", stdin=" \n")
    assert (result.code, result.out) == (2, "")
    assert "empty" in result.err
    assert command.file.get("ibm-eu").reveal() == "x"


def test_an_entry_is_removed_after_a_question_or_with_yes(command: Command) -> None:
    for name in ("ibm-eu", "ibm-us"):
        command.run("set", name, stdin="x")
    assert command.run("remove", "ibm-eu", stdin="n\n").code == 1
    assert command.run("remove", "ibm-eu", stdin="y\n").code == 0
    assert command.run("remove", "ibm-us", "--yes").code == 0
    assert command.file.list() == ()
    missing = command.run("remove", "ibm-us", "--yes")
    assert missing.code == 2
    assert "ibm-us" in missing.err


def test_a_rotation_makes_a_key_where_there_is_none_and_seals_all_with_it(command: Command) -> None:
    value = secrets.token_urlsafe(24)
    command.run("set", "ibm-eu", stdin=value)
    new_key_file = command.folder / "new.key"
    result = command.run("rotate", "--new-key-file", str(new_key_file))
    assert result.code == 0, result.err
    assert new_key_file.stat().st_mode & 0o777 == 0o600
    assert new_key_file.read_text().strip() not in result.out
    assert command.run("check").code == 2
    assert command.run("check", "--key-file", str(new_key_file)).code == 0
    command.key = Secret(new_key_file.read_text().strip())
    assert command.file.get("ibm-eu").reveal() == value


def test_a_rotation_takes_a_key_that_is_there(command: Command) -> None:
    command.run("set", "ibm-eu", stdin="x")
    key = SealKey.generate()
    (command.folder / "new.key").write_text(key.reveal())
    assert command.run("rotate", "--new-key-file", str(command.folder / "new.key")).code == 0
    command.key = key
    assert command.file.get("ibm-eu").reveal() == "x"


def test_troubles_are_one_message_and_exit_code_2(command: Command) -> None:
    missing = command.run("list")
    assert "gateway credentials set" in missing.err
    command.run("set", "ibm-eu", stdin="x")
    no_key = command.environment()
    del no_key["GATEWAY_SEAL_KEY"]
    wrong_key = command.environment() | {"GATEWAY_SEAL_KEY": SealKey.generate().reveal()}
    bad_key = command.environment() | {"GATEWAY_SEAL_KEY": "no key"}
    results = {
        "GATEWAY_CREDENTIALS__SEAL_KEY_FILE": command.run("check", environment=no_key),
        "another key": command.run("check", environment=wrong_key),
        "openssl rand -base64 32": command.run("check", environment=bad_key),
        "No such file": command.run("check", "--key-file", str(command.folder / "none")),
    }
    command.path.write_bytes(command.path.read_bytes()[:-1])
    results["is cut off"] = command.run("check")
    for words, result in (results | {"There is no sealed file": missing}).items():
        assert result.code == 2
        assert words in result.err
        assert "Traceback" not in result.err
        assert len(result.err.splitlines()) == 1
