"""What became of the inputs that were tried."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_KEPT = 20
_LONGEST = 2_000


@dataclass
class Tally:
    """Counts of one target, and what was wrong."""

    target: str
    counts: Counter[str] = field(default_factory=Counter)
    """Number of inputs by what became of them."""
    wrong: list[str] = field(default_factory=list)
    """The first inputs that were answered in a way that no input may be."""
    wrong_count: int = 0

    @property
    def inputs(self) -> int:
        """Number of inputs that were tried."""
        return sum(self.counts.values())

    def blame(self, what: str) -> None:
        """Note something that must not be."""
        self.wrong_count += 1
        if len(self.wrong) < _KEPT:
            self.wrong.append(what[:_LONGEST])
