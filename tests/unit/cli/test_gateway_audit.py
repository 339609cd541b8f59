"""`gateway audit`, over a database that a store has written."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.store import Store
from tests.unit.store.make import an_entry


def audit(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway", "audit", *arguments]
    environment = {"GATEWAY_STORE__PATH": str(path), "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.fixture
async def trail(tmp_path: Path) -> Path:
    path = tmp_path / "qgateway.db"
    store = await Store.open(path)
    for number in range(3):
        await store.append_audit(an_entry(f"act {number}", tenant=("physics", "chemistry")[number % 2]))
    await store.close()
    return path


def test_a_whole_trail_is_told_with_its_end_and_an_altered_one_with_exit_code_1(trail: Path) -> None:
    whole = audit(trail, "verify")
    assert whole.returncode == 0, whole.stderr
    assert "3 records" in whole.stdout
    end = whole.stdout.split()[-1]
    assert audit(trail, "verify", "--expect", end).returncode == 0
    with sqlite3.connect(trail) as connection:
        connection.execute("UPDATE audit SET caller = 'mallory' WHERE sequence = 2")
    connection.close()
    broken = audit(trail, "verify", "--json")
    assert broken.returncode == 1
    told = json.loads(broken.stdout)
    assert (told["ok"], told["records"]) == (False, 1)
    assert "Record 2" in told["problem"]


def test_a_trail_that_was_made_anew_is_not_the_one_that_was_expected(trail: Path) -> None:
    assert audit(trail, "verify", "--expect", f"2:{'0' * 64}").returncode == 1
    assert audit(trail, "verify", "--expect", f"9:{'0' * 64}").returncode == 1
    assert audit(trail, "verify", "--expect", "nonsense").returncode == 2


def test_records_are_exported_as_json_lines(trail: Path, tmp_path: Path) -> None:
    everything = [json.loads(line) for line in audit(trail, "export").stdout.splitlines()]
    assert [record["entry"]["action"] for record in everything] == ["act 0", "act 1", "act 2"]
    assert all(len(record["hash"]) == 64 for record in everything)
    output = tmp_path / "audit.jsonl"
    assert audit(trail, "export", "--tenant", "chemistry", "--output", str(output)).returncode == 0
    (only,) = output.read_text().splitlines()
    assert json.loads(only) == everything[1]


def test_a_missing_database_is_a_clear_error(tmp_path: Path) -> None:
    missing = audit(tmp_path / "none.db", "verify")
    assert missing.returncode == 2
    assert "no database" in missing.stderr
