"""The bar of a long download: on a terminal only, and only where it is long."""

from __future__ import annotations

import io

import pytest
from qgateway import _progress
from qgateway._progress import download_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with download_bar("Result") as progress:
        assert progress is None


def test_a_short_download_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with download_bar("Result") as progress:
        assert progress is not None
        progress(50, 100)
        progress(100, 100)
    assert terminal.getvalue() == ""


def test_a_long_download_shows_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    with download_bar("Result") as progress:
        assert progress is not None
        progress(500_000, 1_000_000)
        progress(1_000_000, 1_000_000)
    assert "Result" in terminal.getvalue()
