import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.credentials.errors import CredentialError, EntryNotFound, SourceError, WrongSealKey
from gateway.credentials.seal_key import SealKey
from gateway.credentials.sealed_file import SealedFile
from gateway.credentials.sources import (
    SEAL_KEY_FILE_VARIABLE,
    SEAL_KEY_VARIABLE,
    EnvironmentSource,
    FileSource,
    SealedFileSource,
    SecretSource,
    seal_key_source,
)
from gateway.domain.secret import Secret

FAST = 0.005


def _new() -> str:
    return secrets.token_urlsafe(24)


async def _load_after_next(changes: AsyncIterator[None], source: SecretSource) -> Secret:
    async with asyncio.timeout(10):
        await anext(changes)
    return await source.load()


async def test_an_environment_variable_is_a_source_that_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    value = _new()
    monkeypatch.setenv("IBM_KEY", f" {value}\n")
    source = EnvironmentSource("IBM_KEY")
    assert (await source.load()).reveal() == value
    assert [turn async for turn in source.changes()] == [None]


@pytest.mark.parametrize("value", [None, "", "  \n"])
async def test_a_variable_that_is_missing_or_empty_is_named(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("IBM_KEY", raising=False)
    else:
        monkeypatch.setenv("IBM_KEY", value)
    with pytest.raises(SourceError, match="environment variable IBM_KEY"):
        await EnvironmentSource("IBM_KEY").load()


@pytest.mark.parametrize("around", ["{}", "{}\n", "\ufeff{}\r\n", "\n {} \n"])
async def test_a_file_gives_its_content_without_white_space_around(around: str, tmp_path: Path) -> None:
    value = _new()
    path = tmp_path / "key"
    path.write_text(around.format(value), encoding="utf-8")
    assert (await FileSource(path).load()).reveal() == value


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"", "is empty"), (b" \n", "is empty"), (b"k\xff", "UTF-8"), (b"k" * 70_000, "65536")],
)
async def test_a_file_without_a_secret_is_named_and_not_shown(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        await FileSource(path).load()
    assert str(path) in str(caught.value)
    assert "kk" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def _in_place(path: Path, value: str) -> None:
    path.write_text(value)


def _by_rename(path: Path, value: str) -> None:
    new = path.with_name("new")
    new.write_text(value)
    new.replace(path)


def _in_place_with_the_same_date(path: Path, value: str) -> None:
    before = path.stat()
    path.write_text(value)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("write", [_in_place, _by_rename, _in_place_with_the_same_date])
async def test_a_file_that_is_written_anew_is_noticed(write: Callable[[Path, str], None], tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(_new())
    source = FileSource(path, poll_interval=FAST)
    changes = source.changes()
    await anext(changes)
    for value in (_new(), _new()):
        write(path, value)
        assert await _load_after_next(changes, source) == Secret(value)


async def test_the_exchange_of_a_mounted_directory_is_noticed(tmp_path: Path) -> None:
    # As Kubernetes does it: key -> ..data/key, and ..data -> a directory with a date, which is exchanged in one step.
    def mount(value: str) -> None:
        folder = tmp_path / f"..{secrets.token_hex(4)}"
        folder.mkdir()
        (folder / "key").write_text(value)
        link = tmp_path / "..data_tmp"
        link.symlink_to(folder.name)
        link.replace(tmp_path / "..data")

    first, second = _new(), _new()
    mount(first)
    (tmp_path / "key").symlink_to("..data/key")
    source = FileSource(tmp_path / "key", poll_interval=FAST)
    changes = source.changes()
    assert await _load_after_next(changes, source) == Secret(first)
    mount(second)
    assert await _load_after_next(changes, source) == Secret(second)


async def test_a_file_that_goes_and_comes_back_is_noticed_both_times(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(_new())
    source = FileSource(path, poll_interval=FAST)
    changes = source.changes()
    await anext(changes)
    path.unlink()
    with pytest.raises(SourceError):
        await _load_after_next(changes, source)
    value = _new()
    _by_rename(path, value)
    assert await _load_after_next(changes, source) == Secret(value)


async def test_a_file_that_stays_the_same_is_not_announced(tmp_path: Path) -> None:
    path, value = tmp_path / "key", _new()
    path.write_text(value)
    source = FileSource(path, poll_interval=FAST)
    changes = source.changes()
    await anext(changes)
    next_change = asyncio.ensure_future(anext(changes))
    _by_rename(path, f"{value}\n")  # another file with the same secret
    done, _ = await asyncio.wait([next_change], timeout=20 * FAST)
    assert not done
    path.write_text(_new())
    await asyncio.wait_for(next_change, 10)


async def test_a_sealed_entry_is_a_source_that_follows_the_file(tmp_path: Path) -> None:
    text = SealKey.generate()
    key_file = tmp_path / "seal.key"
    key_file.write_text(text.reveal() + "\n")
    sealed = SealedFile.create(tmp_path / "credentials.sealed", SealKey(text))
    first, second = Secret(_new()), Secret(_new())
    sealed.set("ibm-eu", first)
    source = SealedFileSource(tmp_path / "credentials.sealed", "ibm-eu", FileSource(key_file), poll_interval=FAST)
    changes = source.changes()
    assert await _load_after_next(changes, source) == first
    sealed.set("ibm-us", Secret("another"))
    sealed.set("ibm-eu", second)
    assert await _load_after_next(changes, source) == second

    # The seal key is rotated: first the file, then what the gateway is given as its key.
    new_text = SealKey.generate()
    sealed.rotate(SealKey(new_text))
    with pytest.raises(WrongSealKey):
        await _load_after_next(changes, source)
    key_file.write_text(new_text.reveal())
    assert await _load_after_next(changes, source) == second


async def test_a_sealed_entry_that_is_missing_is_named(tmp_path: Path) -> None:
    text = SealKey.generate()
    (tmp_path / "seal.key").write_text(text.reveal())
    SealedFile.create(tmp_path / "credentials.sealed", SealKey(text))
    source = SealedFileSource(tmp_path / "credentials.sealed", "ibm-eu", FileSource(tmp_path / "seal.key"))
    with pytest.raises(EntryNotFound, match="ibm-eu"):
        await source.load()


async def test_the_seal_key_comes_from_one_of_two_variables_or_a_named_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load(source: SecretSource) -> str:
        return (await source.load()).reveal()

    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    monkeypatch.delenv(SEAL_KEY_VARIABLE, raising=False)
    monkeypatch.setenv(SEAL_KEY_FILE_VARIABLE, str(tmp_path / "a"))
    assert await load(seal_key_source()) == "a"
    assert await load(seal_key_source(tmp_path / "b")) == "b"
    monkeypatch.setenv(SEAL_KEY_VARIABLE, "c")
    with pytest.raises(SourceError, match="Set one"):
        seal_key_source()
    monkeypatch.delenv(SEAL_KEY_FILE_VARIABLE)
    assert await load(seal_key_source()) == "c"
    monkeypatch.delenv(SEAL_KEY_VARIABLE)
    with pytest.raises(SourceError, match="openssl rand"):
        seal_key_source()


@pytest.mark.parametrize(
    "make",
    [
        lambda _: EnvironmentSource("IBM_KEY"),
        FileSource,
        lambda path: SealedFileSource(path, "ibm-eu", FileSource(path)),
    ],
)
async def test_neither_a_source_nor_its_errors_show_the_secret(
    make: Callable[[Path], SecretSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = _new()
    monkeypatch.setenv("IBM_KEY", value)
    (tmp_path / "key").write_text(value)
    source = make(tmp_path / "key")

    async def error_of(load: Callable[[], Awaitable[Secret]]) -> str:
        try:
            return repr(await load())
        except CredentialError as error:
            return repr(error)

    assert value not in f"{source} {source!r} {await error_of(source.load)}"
