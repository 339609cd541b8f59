"""The demonstration over accounts of IBM Quantum, as `make demo-ibm` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(260)
def test_the_demonstration_finds_all_as_it_should_be(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.demo_ibm", str(tmp_path / "demo")]
    run = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    _, _, checks = run.stdout.partition("Is all as it should be?")
    assert checks.count("✓") >= 10
    assert "✗" not in checks
    assert "CANCELLED" in run.stdout
