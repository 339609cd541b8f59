from __future__ import annotations

from pathlib import Path

import pytest

from gateway.access.api_keys import hash_api_key
from gateway.config import ConfigError, load_settings
from gateway.config_accounts import IbmAccountSettings
from gateway.config_reference import reference
from gateway.domain.access import Role

CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123:4567::"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GATEWAY_CONFIG", "GATEWAY_SERVER__LISTEN", "GATEWAY_STORE__PATH"):
        monkeypatch.delenv(name, raising=False)


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return path


def test_without_anything_there_is_a_local_account_on_loopback() -> None:
    settings = load_settings()
    assert settings.server.listen == "127.0.0.1:50051"
    assert list(settings.accounts) == ["local"]


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, '[server]\nlisten = "127.0.0.1:1"\nheartbeat_interval = 3\n')
    monkeypatch.setenv("GATEWAY_SERVER__LISTEN", "127.0.0.1:2")
    settings = load_settings(path)
    assert (settings.server.listen, settings.server.heartbeat_interval) == ("127.0.0.1:2", 3)


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, '[log]\nlevel = "debug"\n')
    monkeypatch.setenv("GATEWAY_CONFIG", str(path))
    assert load_settings().log.level == "debug"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nlisten = 'nowhere'\n", "server.listen: must be HOST:PORT"),
        ("[server]\nlisten = '0.0.0.0:1'\n", "is not loopback"),
        ("[server]\nheartbeat = 1\n", "server.heartbeat: there is no such setting"),
        ("[server]\nheartbeat_interval = 0\n", "server.heartbeat_interval"),
        ("[server.tls]\nkey = 'k.pem'\n", "certificate and key belong together"),
        ("[stores]\n", "stores: there is no such setting"),
        ("[accounts.local]\nprovider = 'mars'\n", "accounts.local.provider"),
        ("[accounts.'A b']\nprovider = 'local'\n", "account name 'A b'"),
        ("[accounts.local]\nprovider = 'local'\nparallel_jobs = 0\n", "accounts.local.parallel_jobs"),
        ("[accounts.lab]\ncrn = 'x'\n", "accounts.lab.provider: must be 'local' or 'ibm'"),
        (f"[accounts.lab]\nprovider = 'ibm'\ncrn = '{CRN}'\n", "accounts.lab: exactly one of key_env, key_file"),
        (
            f"[accounts.lab]\nprovider = 'ibm'\ncrn = '{CRN}'\nkey_env = 'A'\nkey_sealed = 'b'\n",
            "accounts.lab: exactly one of key_env, key_file",
        ),
        ("[accounts.lab]\nprovider = 'ibm'\ncrn = 'mine'\nkey_env = 'A'\n", "accounts.lab.crn: must be the CRN"),
        (
            f"[accounts.lab]\nprovider = 'ibm'\ncrn = '{CRN}'\nkey_env = 'A'\nprogram = 'sampler'\ncircuit_format = 'qpy18'\n",
            "'qpy17' only",
        ),
        (
            f"[accounts.lab]\nprovider = 'ibm'\ncrn = '{CRN}'\nkey_env = 'A'\napi_url = 'https://me:secret@x'\n",
            "without user and password",
        ),
        (
            f"[accounts.lab]\nprovider = 'ibm'\ncrn = '{CRN}'\n[accounts.lab.key_vault]\naddress = 'https://v'\npath = 'p'\n",
            "accounts.lab.key_vault: exactly one of token_env, token_file and role_id",
        ),
        ("[[access.api_keys]]\nname = 'a'\n", "exactly one of sha256, key_env and key_file"),
        ("[[access.api_keys]]\nname = 'a'\nsha256 = 'short'\n", "64 hexadecimal digits"),
        ("[[access.api_keys]]\nname = 'a'\nkey_env = 'X'\nrole = 'king'\n", "role"),
        (
            "[[access.api_keys]]\nname='a'\nkey_env='X'\n[[access.api_keys]]\nname='a'\nkey_env='Y'\n",
            "a name of its own",
        ),
        ("[server", "is not TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace("[", r"\[")):
        load_settings(_write(tmp_path, text))


def test_an_account_of_ibm_quantum_needs_its_instance_and_a_key(tmp_path: Path) -> None:
    path = _write(tmp_path, f"[accounts.lab]\nprovider = 'ibm'\ncrn = '{CRN}'\nkey_file = '/run/secrets/lab'\n")
    account = load_settings(path).accounts["lab"]
    assert isinstance(account, IbmAccountSettings)
    assert (account.crn, account.key_file, account.program) == (CRN, Path("/run/secrets/lab"), "executor")
    assert account.submits_per_minute == 5


def test_an_account_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PROVIDER": "ibm", "CRN": CRN, "KEY_SEALED": "lab"}.items():
        monkeypatch.setenv(f"GATEWAY_ACCOUNTS__LAB__{name}", value)
    account = load_settings().accounts["lab"]
    assert isinstance(account, IbmAccountSettings)
    assert account.key_sealed == "lab"


@pytest.mark.parametrize("name", ["GATEWAY_ACCOUNTS", "GATEWAY_SERVER__TLS", "GATEWAY_ACCESS__ISSUERS"])
def test_a_variable_that_is_not_json_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, '{"canary": ')
    with pytest.raises(ConfigError, match=f"{name} is not JSON") as caught:
        load_settings()
    assert "canary" not in str(caught.value)


def test_a_key_in_vault_is_reached_by_token_or_as_a_role(tmp_path: Path) -> None:
    head = f"[accounts.lab]\nprovider = 'ibm'\ncrn = '{CRN}'\n[accounts.lab.key_vault]\naddress = 'https://v'\npath = 'p'\n"
    for way in ("token_env = 'T'", "token_file = '/t'", "role_id = 'r'\nsecret_id_env = 'S'"):
        account = load_settings(_write(tmp_path, f"{head}{way}\n")).accounts["lab"]
        assert isinstance(account, IbmAccountSettings)
    with pytest.raises(ConfigError, match="belongs to role_id"):
        load_settings(_write(tmp_path, f"{head}token_env = 'T'\nsecret_id_env = 'S'\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no configuration file"):
        load_settings(tmp_path / "none.toml")


def test_a_wrong_value_is_not_repeated_because_it_could_be_a_secret(tmp_path: Path) -> None:
    path = _write(tmp_path, "[[access.api_keys]]\nname = 'a'\nsha256 = 'qgw_a-secret-in-the-wrong-place'\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert "qgw_" not in str(caught.value)


def test_a_key_comes_from_its_hash_a_variable_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_KEY", "from the environment\n")
    (tmp_path / "key").write_text("from a file\n")
    text = "".join(
        f"[[access.api_keys]]\nname = '{name}'\n{source}\n"
        for name, source in (
            ("hashed", f"sha256 = '{hash_api_key('known')}'\nrole = 'viewer'"),
            ("env", "key_env = 'CI_KEY'"),
            ("file", f"key_file = '{tmp_path / 'key'}'"),
        )
    )
    hashed, env, file = (key.load() for key in load_settings(_write(tmp_path, text)).access.api_keys)
    assert (hashed.sha256, hashed.role) == (hash_api_key("known"), Role.VIEWER)
    assert env.sha256 == hash_api_key("from the environment")
    assert file.sha256 == hash_api_key("from a file")


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path, "[[access.api_keys]]\nname = 'a'\nkey_env = 'NOT_SET_ANYWHERE'\n")
    with pytest.raises(ConfigError, match="NOT_SET_ANYWHERE"):
        load_settings(path).access.api_keys[0].load()


def test_every_setting_says_what_it_means() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    assert all(row.split("|")[3].strip() for row in rows)


def test_the_checked_in_reference_is_the_one_that_the_code_makes() -> None:
    checked_in = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert checked_in.read_text() == reference(), "run: gateway config reference > docs/configuration.md"
