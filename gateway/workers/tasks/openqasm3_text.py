"""Cutting an OpenQASM 3 text into statements, without understanding them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

COMMENT = "\f"
"""Stands where a comment was. It is no character of the language, so that no word or literal is made of what was around it."""

_COMMENT = re.compile(r"//[^\r\n]*+|/\*(?s:.*?)(?:\*/|\Z)")
_W = rf"[ \t\r\n{COMMENT}]*+"
# The lexer of the language is in a mode of its own behind `OPENQASM` and `include`: there are no comments there.
_HEAD = re.compile(
    rf'{_W}(?:OPENQASM[ \t\r\n]++3(?:\.[0-9]++)?{_W};{_W})?(?P<include>include[ \t\r\n]*+"stdgates\.inc"{_W};)?'
)
# No quotes, since there are no texts behind the head; of letters beyond ASCII only Greek ones: \u00b5s, \u03b8, \u03c0.
_STRANGE = re.compile(rf"[^\t\n\r !$%&(-~{COMMENT}\u00b5\u03b1-\u03c9\u0391-\u03a1\u03a3-\u03a9]")
# Behind these words the lexer reads on by other rules.
_MODES = ("OPENQASM", "include", "pragma", "cal")
_MODE = re.compile(r"\b(?:OPENQASM|include|pragma|cal|defcal|defcalgrammar)\b")
# An annotation, and not the `@` behind a modifier.
_ANNOTATION = re.compile(rf"@[^ \t\r\n{COMMENT}]")
_END = re.compile("[;{}]")


class NotFlat(Exception):
    """The text is not one that can be cut into statements without parsing it. It may be right all the same."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A text without its comments."""

    includes_gates: bool
    """Whether it includes the standard gates, and does so at its beginning."""
    body: str
    """What follows."""

    def statements(self) -> Iterator[tuple[int, int]]:
        """Yield where each statement of the body begins and ends: behind its semicolon, or behind its closing brace.

        What follows the last one is yielded too, unless it is white space. Some statements come in pieces, such as
        `if (c) { … } else { … }`; no piece but the first can stand alone.

        Raises:
            NotFlat: Braces do not match.
        """
        start = depth = 0
        for match in _END.finditer(self.body):
            symbol = match[0]
            if symbol != ";":
                depth += 1 if symbol == "{" else -1
            if depth < 0:
                raise NotFlat
            if depth == 0:
                yield start, match.end()
                start = match.end()
        if depth:
            raise NotFlat
        if self.body[start:].strip():
            yield start, len(self.body)


def outline(source: str) -> Outline:
    """Take the comments and the head off a text.

    Raises:
        NotFlat: It has something that changes the rules of reading, such as a pragma, or a character that this module leaves
            to others; or it has nothing at all, which is no program.
    """
    if COMMENT in source:
        raise NotFlat
    text = _COMMENT.sub(_blank, source) if "//" in source or "/*" in source else source
    if not text.strip():
        raise NotFlat
    head = _HEAD.match(text)
    if head is None:
        raise NotFlat
    body = text[head.end() :]
    if (
        _STRANGE.search(body)
        or ("@" in body and _ANNOTATION.search(body))
        or (any(word in body for word in _MODES) and _MODE.search(body))
    ):
        raise NotFlat
    return Outline(head["include"] is not None, body)


def _blank(comment: re.Match[str]) -> str:
    text = comment[0]
    if text.startswith("/*") and (len(text) < len("/**/") or not text.endswith("*/")):
        raise NotFlat
    return COMMENT
