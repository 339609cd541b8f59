"""What is wrong with a program, collected so that a caller can mend all of it at once."""

from __future__ import annotations

from gateway.domain.errors import FieldViolation, InvalidArgument, Reason

_MAX_VIOLATIONS = 20
_MAX_DESCRIPTION = 1000


class Unreadable(Exception):
    """A source text or file cannot be read. The message says what is wrong and where."""


class Violations:
    """Collects what is wrong with the fields of a request."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def __len__(self) -> int:
        """Return how many things are wrong so far."""
        return len(self._found)

    def add(self, field: str, description: str) -> None:
        """Note what is wrong with a field."""
        self._found.append(FieldViolation(field, description[:_MAX_DESCRIPTION]))

    def raise_if_any(self) -> None:
        """Refuse the program if anything is wrong with it.

        Raises:
            InvalidArgument: Names every field that is wrong, up to a bound.
        """
        if not self._found:
            return
        first, more = self._found[0], len(self._found) - 1
        message = f"{first.field}: {first.description}" + (f" (and {more} more)" if more else "")
        raise InvalidArgument(message, reason=Reason.INVALID_PROGRAM, violations=self._found[:_MAX_VIOLATIONS])


def refuse(field: str, description: str) -> InvalidArgument:
    """Make the error for a program with one thing wrong."""
    return InvalidArgument.field(field, description[:_MAX_DESCRIPTION], reason=Reason.INVALID_PROGRAM)
