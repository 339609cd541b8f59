"""Settings come from arguments first, then from the environment, and a wrong one is named."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from qgateway._settings import ApiKey, ConnectionSettings, SettingsError

CANARY = "canary-0123456789"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("QGATEWAY_")]:
        monkeypatch.delenv(name)


def test_without_any_setting_the_target_is_on_this_machine_and_in_clear() -> None:
    settings = ConnectionSettings.from_environment()
    assert (settings.target, settings.api_key, settings.uses_tls) == ("127.0.0.1:50051", None, False)


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("root", "cert", "key")}
    for name, path in files.items():
        path.write_text("pem")
        monkeypatch.setenv(f"QGATEWAY_TLS_{name.upper()}", str(path))
    monkeypatch.setenv("QGATEWAY_TARGET", "gateway.example:443")
    monkeypatch.setenv("QGATEWAY_API_KEY", CANARY)
    monkeypatch.setenv("QGATEWAY_TLS", "off")
    monkeypatch.setenv("QGATEWAY_TLS_SERVER_NAME", "other.example")
    settings = ConnectionSettings.from_environment()
    assert settings == ConnectionSettings(
        target="gateway.example:443",
        api_key=ApiKey(CANARY),
        tls="off",
        tls_root=files["root"],
        tls_cert=files["cert"],
        tls_key=files["key"],
        tls_server_name="other.example",
    )


def test_an_argument_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QGATEWAY_TARGET", "gateway.example:443")
    monkeypatch.setenv("QGATEWAY_API_KEY", "of-the-environment")
    settings = ConnectionSettings.from_environment(target="localhost:1", api_key=CANARY, tls=None)
    assert settings.target == "localhost:1"
    assert settings.api_key == ApiKey(CANARY)


def test_the_key_is_read_from_a_file_without_the_line_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY + "\n")
    monkeypatch.setenv("QGATEWAY_API_KEY_FILE", str(tmp_path / "key"))
    key = ConnectionSettings.from_environment().api_key
    assert key is not None
    assert key.reveal() == CANARY
    assert CANARY not in f"{key} {key!r}"


def test_a_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    key = ConnectionSettings.from_environment(api_key_file=path).api_key
    assert key is not None
    (tmp_path / "new").write_text("second, which is no key")
    (tmp_path / "new").replace(path)
    assert key.reveal() == "first"
    path.write_text("")
    assert key.reveal() == "first"
    path.unlink()
    assert key.reveal() == "first"
    path.write_text("second\n")
    assert key.reveal() == "second"


def test_a_key_can_come_from_a_function() -> None:
    keys = iter(["first", "second", "no key"])
    key = ConnectionSettings.from_environment(api_key=lambda: next(keys)).api_key
    assert key is not None
    assert [key.reveal(), key.reveal()] == ["first", "second"]
    with pytest.raises(SettingsError):
        key.reveal()


@pytest.mark.parametrize(
    ("target", "encrypted"),
    [
        ("127.0.0.1:1", False),
        ("127.8.9.10:1", False),
        ("[::1]:1", False),
        ("localhost:1", False),
        ("dns:///localhost:1", False),
        ("ipv6:[::1]:1", False),
        ("unix:/run/gateway.sock", False),
        ("10.0.0.1:1", True),
        ("gateway.example:1", True),
        ("localhost.example:1", True),
        ("dns:///gateway.example:1", True),
    ],
)
def test_what_leaves_the_machine_is_encrypted(target: str, encrypted: bool) -> None:
    assert ConnectionSettings(target).uses_tls is encrypted
    assert not ConnectionSettings(target, tls="off").uses_tls
    assert ConnectionSettings(target, tls="on").uses_tls


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("QGATEWAY_TARGET", "gateway.example"),
        ("QGATEWAY_TARGET", "https://gateway.example:443"),
        ("QGATEWAY_TARGET", "gateway.example:https"),
        ("QGATEWAY_API_KEY", f"{CANARY} with blanks"),
        ("QGATEWAY_API_KEY_FILE", "/does/not/exist"),
        ("QGATEWAY_TLS", "perhaps"),
        ("QGATEWAY_TLS_ROOT", "/does/not/exist"),
        ("QGATEWAY_TLS_CERT", __file__),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as caught:
        ConnectionSettings.from_environment()
    assert CANARY not in str(caught.value)


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="tsl"):
        ConnectionSettings.from_environment(tsl="on")


def test_the_key_is_neither_printed_nor_pickled() -> None:
    settings = ConnectionSettings(api_key=ApiKey(CANARY))
    assert CANARY not in f"{settings} {settings!r} {settings.api_key} {settings.api_key!r}"
    assert CANARY.encode() not in pickle.dumps(settings)


def test_a_copy_and_a_pickle_read_in_the_same_process_have_the_key() -> None:
    settings = ConnectionSettings(api_key=ApiKey(CANARY))
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301
    assert copy.deepcopy(settings) == settings


def test_a_pickle_read_in_another_process_takes_the_key_of_its_environment() -> None:
    pickled = pickle.dumps(ConnectionSettings(api_key=ApiKey(CANARY)))
    code = (
        "import pickle, sys; settings = pickle.loads(sys.stdin.buffer.read());"
        "print(settings.target, settings.api_key.reveal())"
    )
    environment = {**os.environ, "QGATEWAY_API_KEY": "of-the-other-process"}
    done = subprocess.run([sys.executable, "-c", code], input=pickled, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["127.0.0.1:50051", "of-the-other-process"]
