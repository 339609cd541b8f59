import os
import secrets
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gateway.credentials import sealed_file as module
from gateway.credentials.errors import (
    BadSealKey,
    CredentialError,
    EntryNotFound,
    InvalidEntry,
    NotASealedFile,
    SealedFileBusy,
    SealedFileError,
    SealedFileExists,
    SealedFileMissing,
    Tampered,
    Truncated,
    UnknownFormat,
    WrongSealKey,
)
from gateway.credentials.seal_key import SealKey
from gateway.credentials.sealed_file import MAX_NAME_LENGTH, MAX_SECRET_BYTES, SealedFile
from gateway.credentials.sealed_format import pack, unpack
from gateway.domain.secret import Secret

KEY = SealKey(SealKey.generate())
NAMES = ("ibm-eu", "ibm-us", "vault")
VALUES = {name: secrets.token_urlsafe(24) for name in NAMES}

names = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=40).filter(
    lambda name: name == name.strip()
)
values = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
several_times = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a file with three entries."""
    path = tmp_path_factory.mktemp("sealed") / "credentials.sealed"
    sealed = SealedFile.create(path, KEY)
    for name, value in VALUES.items():
        sealed.set(name, Secret(value))
    return path.read_bytes()


def _path(sealed: SealedFile) -> Path:
    return sealed._path


def test_what_was_set_is_got(sealed: SealedFile, key: SealKey) -> None:
    for name, value in VALUES.items():
        sealed.set(name, Secret(value))
    again = SealedFile.open(_path(sealed), key)
    assert {name: again.get(name).reveal() for name in NAMES} == VALUES
    assert [entry.name for entry in again.list()] == sorted(NAMES)


def test_each_new_secret_of_a_name_is_a_new_version(sealed: SealedFile) -> None:
    first = sealed.set("ibm-eu", Secret("one"))
    second = sealed.set("ibm-eu", Secret("two"))
    assert (first.version, second.version) == (1, 2)
    assert second.created_at == first.created_at <= second.changed_at
    assert sealed.list() == (second,)
    assert sealed.get("ibm-eu").reveal() == "two"


def test_what_was_removed_is_gone(sealed: SealedFile) -> None:
    sealed.set("ibm-eu", Secret("x"))
    sealed.set("ibm-us", Secret("y"))
    sealed.remove("ibm-eu")
    assert [entry.name for entry in sealed.list()] == ["ibm-us"]
    for use in (sealed.get, sealed.remove):
        with pytest.raises(EntryNotFound, match="ibm-eu"):
            use("ibm-eu")


@several_times
@given(entries=st.dictionaries(names, values, min_size=1, max_size=4))
def test_any_names_and_secrets_come_back_as_they_were(entries: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / secrets.token_hex(8)
    sealed = SealedFile.create(path, KEY)
    for name, value in entries.items():
        sealed.set(name, Secret(value))
    assert {entry.name: sealed.get(entry.name).reveal() for entry in sealed.list()} == entries


@several_times
@given(name=st.text(max_size=MAX_NAME_LENGTH + 5))
def test_a_name_is_kept_as_it_is_or_refused(name: str, tmp_path: Path) -> None:
    sealed = SealedFile.create(tmp_path / secrets.token_hex(8), KEY)
    try:
        sealed.set(name, Secret("x"))
    except InvalidEntry:
        assert not name or not name.isprintable() or name != name.strip() or len(name) > MAX_NAME_LENGTH
        assert sealed.list() == ()
    else:
        assert sealed.get(name).reveal() == "x"


@pytest.mark.parametrize("text", ["x" * (MAX_SECRET_BYTES + 1), "\udcff"])
def test_a_secret_that_does_not_fit_is_refused_without_being_shown(sealed: SealedFile, text: str) -> None:
    with pytest.raises(InvalidEntry) as caught:
        sealed.set("ibm-eu", Secret(text))
    assert len(str(caught.value)) < 200
    assert sealed.list() == ()


@several_times
@given(flips=st.dictionaries(st.integers(min_value=0), st.integers(1, 255), min_size=1, max_size=3))
def test_a_file_with_any_bytes_flipped_is_refused(content: bytes, flips: dict[int, int], tmp_path: Path) -> None:
    changed = bytearray(content)
    for place, bits in flips.items():
        changed[place % len(content)] ^= bits
    assume(bytes(changed) != content)
    path = tmp_path / secrets.token_hex(8)
    path.write_bytes(changed)
    with pytest.raises(SealedFileError):
        SealedFile.open(path, KEY)
    with pytest.raises(SealedFileError):
        SealedFile(path, KEY).get(NAMES[0])


def test_every_single_byte_of_a_file_is_guarded(content: bytes) -> None:
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(SealedFileError):
            unpack(bytes(changed), KEY, "file")


def test_a_file_cut_off_anywhere_is_told_as_such(content: bytes) -> None:
    for length in range(len(content)):
        with pytest.raises(Truncated):
            unpack(content[:length], KEY, "file")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda content: content + b"\n", Tampered),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), Tampered),
        (lambda content: content[:12] + bytes([content[12] ^ 1]) + content[13:], Tampered),
        (lambda content: content[:8] + b"\x00\x02" + content[10:], UnknownFormat),
        (lambda content: b"[accounts]\n" + content, NotASealedFile),
    ],
    ids=["longer", "a bit of the tag", "a bit of the key id", "another format", "another file"],
)
def test_each_kind_of_damage_has_its_own_error(content: bytes, change: object, error: type[SealedFileError]) -> None:
    with pytest.raises(error, match="credentials"):
        unpack(change(content), KEY, "sealed file credentials")  # type: ignore[operator]


def test_another_key_is_told_from_a_damaged_file(content: bytes) -> None:
    with pytest.raises(WrongSealKey):
        unpack(content, SealKey(SealKey.generate()), "file")


def test_secrets_cannot_be_swapped_between_entries_even_with_the_key(content: bytes, tmp_path: Path) -> None:
    first, second, third = unpack(content, KEY, "file")
    swapped = (replace(first, sealed=second.sealed), replace(second, sealed=first.sealed), third)
    path = tmp_path / "credentials.sealed"
    path.write_bytes(pack(swapped, KEY))
    sealed = SealedFile.open(path, KEY)
    for entry in (first.entry, second.entry):
        with pytest.raises(Tampered, match=entry.name):
            sealed.get(entry.name)
    assert sealed.get(third.entry.name).reveal() == VALUES[third.entry.name]


def test_an_old_secret_cannot_pass_for_a_new_version(sealed: SealedFile, key: SealKey) -> None:
    sealed.set("ibm-eu", Secret("old"))
    (old,) = unpack(_path(sealed).read_bytes(), key, "file")
    sealed.set("ibm-eu", Secret("new"))
    (new,) = unpack(_path(sealed).read_bytes(), key, "file")
    _path(sealed).write_bytes(pack([replace(new, sealed=old.sealed)], key))
    with pytest.raises(Tampered):
        sealed.get("ibm-eu")


def test_every_write_is_under_a_fresh_nonce(sealed: SealedFile) -> None:
    contents = set()
    for _ in range(20):
        sealed.set("ibm-eu", Secret("the same"))
        contents.add(_path(sealed).read_bytes()[30:42])
    assert len(contents) == 20


def test_nothing_can_be_read_from_the_file_without_the_key(content: bytes) -> None:
    for name, value in VALUES.items():
        assert value.encode() not in content
        assert name.encode() not in content


def test_after_a_rotation_only_the_new_key_opens_the_file(sealed: SealedFile, key: SealKey) -> None:
    for name, value in VALUES.items():
        sealed.set(name, Secret(value))
    before = sealed.list()
    new_key = SealKey(SealKey.generate())
    assert sealed.rotate(new_key) == len(VALUES)
    with pytest.raises(WrongSealKey):
        SealedFile.open(_path(sealed), key)
    again = SealedFile.open(_path(sealed), new_key)
    assert {name: again.get(name).reveal() for name in NAMES} == VALUES
    assert sealed.list() == again.list() == before


def test_a_rotation_that_meets_a_bad_entry_changes_nothing(content: bytes, tmp_path: Path) -> None:
    first, second, third = unpack(content, KEY, "file")
    path = tmp_path / "credentials.sealed"
    path.write_bytes(pack((first, replace(second, sealed=first.sealed), third), KEY))
    before = path.read_bytes()
    with pytest.raises(Tampered):
        SealedFile.open(path, KEY).rotate(SealKey(SealKey.generate()))
    assert path.read_bytes() == before


def test_a_file_is_not_made_over_another(sealed: SealedFile, key: SealKey) -> None:
    sealed.set("ibm-eu", Secret("x"))
    with pytest.raises(SealedFileExists):
        SealedFile.create(_path(sealed), key)
    assert sealed.get("ibm-eu").reveal() == "x"


def test_a_missing_file_and_one_that_cannot_be_read_or_written_are_told_apart(tmp_path: Path, key: SealKey) -> None:
    with pytest.raises(SealedFileMissing, match="gateway credentials set"):
        SealedFile.open(tmp_path / "none", key)
    with pytest.raises(SealedFileError, match="directory"):
        SealedFile.open(tmp_path, key)
    (tmp_path / "file").touch()
    with pytest.raises(SealedFileError, match="Cannot write"):
        SealedFile.create(tmp_path / "file" / "credentials.sealed", key)


def test_the_file_is_for_its_owner_only_and_nothing_else_is_left_behind(sealed: SealedFile) -> None:
    sealed.set("ibm-eu", Secret("x"))
    assert stat.S_IMODE(_path(sealed).stat().st_mode) == 0o600
    left = {path.name for path in _path(sealed).parent.iterdir()}
    assert left <= {"credentials.sealed", "credentials.sealed.lock"}


def test_a_link_to_the_file_stays_a_link(sealed: SealedFile, key: SealKey) -> None:
    link = _path(sealed).with_name("link")
    link.symlink_to(_path(sealed).name)
    SealedFile.open(link, key).set("ibm-eu", Secret("x"))
    assert link.is_symlink()
    assert sealed.get("ibm-eu").reveal() == "x"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_the_owner_of_the_file_stays_its_owner(sealed: SealedFile) -> None:
    os.chown(_path(sealed), 10001, 10001)
    sealed.set("ibm-eu", Secret("x"))
    assert (_path(sealed).stat().st_uid, _path(sealed).stat().st_gid) == (10001, 10001)


def test_a_write_that_fails_leaves_the_old_file(sealed: SealedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed.set("ibm-eu", Secret("old"))

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(SealedFileError, match="No space left"):
        sealed.set("ibm-eu", Secret("new"))
    assert sealed.get("ibm-eu").reveal() == "old"
    assert not [path for path in _path(sealed).parent.iterdir() if path.name.startswith(".")]


def test_a_writer_that_waits_too_long_is_told(sealed: SealedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", 0.05)
    with filelock.FileLock(f"{_path(sealed)}.lock"), pytest.raises(SealedFileBusy):
        sealed.set("ibm-eu", Secret("x"))


def test_writers_in_several_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    text = SealKey.generate()
    path = tmp_path / "credentials.sealed"
    SealedFile.create(path, SealKey(text))
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from gateway.credentials.seal_key import SealKey
        from gateway.credentials.sealed_file import SealedFile
        from gateway.domain.secret import Secret

        sealed = SealedFile.open(Path(sys.argv[1]), SealKey(Secret(sys.stdin.read())))
        for number in range(15):
            sealed.set(f"{sys.argv[2]}-{number}", Secret(f"{number}"))
            sealed.set("shared", Secret(sys.argv[2]))
        """
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, path, str(number)], stdin=subprocess.PIPE)
        for number in range(3)
    ]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write(text.reveal().encode())
        writer.stdin.close()
    sealed = SealedFile(path, SealKey(text))
    while any(writer.poll() is None for writer in writers):
        sealed.list()  # a reader never finds a file half written
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    versions = {entry.name: entry.version for entry in sealed.list()}
    assert versions.pop("shared") == 45
    assert versions == {f"{writer}-{number}": 1 for writer in range(3) for number in range(15)}


@pytest.mark.parametrize("text", ["short", "x" * 44, "AAAA" * 16, "é" * 44])
def test_a_key_that_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(BadSealKey, match="openssl rand -base64 32") as caught:
        SealKey(Secret(text))
    assert text not in str(caught.value)


def test_no_error_shows_a_secret(sealed: SealedFile, content: bytes) -> None:
    sealed.set("ibm-eu", Secret(VALUES["ibm-eu"]))
    _path(sealed).write_bytes(content[:-3])
    with pytest.raises(CredentialError) as caught:
        sealed.get("ibm-eu")
    assert VALUES["ibm-eu"] not in repr(caught.value)
