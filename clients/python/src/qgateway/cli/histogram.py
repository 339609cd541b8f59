"""Counts as bars of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.text import Text

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WIDEST_BAR = 50
_NARROWEST_BAR = 8
_PIPE_COLUMNS = 100


def bars(counts: Mapping[str, int], console: Console, most: int) -> Iterator[Text]:
    """Yield lines with the outcomes, the most frequent first: bit string, bar, count, share.

    Args:
        counts: Outcome to number of shots.
        console: Where the lines are to be shown: gives their length, and whether block characters can be shown.
        most: Number of outcomes to show; the others are summed up in one line.
    """
    shots = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ranked[:most], ranked[most:]
    if not shown:
        return
    label = max(len(outcome) for outcome, _ in shown)
    digits = len(str(shown[0][1]))
    columns = console.width if console.is_terminal else _PIPE_COLUMNS
    width = max(_NARROWEST_BAR, min(_WIDEST_BAR, columns - label - digits - 12))
    blocks = (console.encoding or "").lower().startswith("utf")
    for outcome, count in shown:
        bar = _bar(count / shown[0][1], width, blocks=blocks)
        numbers = f"{count:>{digits}}  {count / shots:>6.1%}"
        yield Text.assemble(f"{outcome:>{label}}  ", (f"{bar:<{width}}", "cyan"), f"  {numbers}")
    if rest:
        count = sum(count for _, count in rest)
        others = "1 other outcome" if len(rest) == 1 else f"{len(rest)} other outcomes"
        yield Text(f"{others} ({count} of {shots} shots, {count / shots:.1%})", style="dim")


def _bar(share: float, width: int, *, blocks: bool) -> str:
    if not blocks:
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
