"""Taking secrets out of texts that leave the process: logs, and errors that callers see.

Whoever writes a message need not remember this: log records and errors pass here by themselves. Two things are looked for: what
has the shape of a credential, and the exact text of every `Secret` that is alive.
"""

from __future__ import annotations

import json
import re

from gateway.domain.secret import live_secrets

MASK = "[redacted]"

_SHORTEST = 6
"""Fewest characters of a secret that is looked for: to replace something shorter everywhere would garble what is no secret."""

_SHAPES = re.compile(
    r"""
      qgw_[A-Za-z0-9_-]{13,}                                       # keys of this gateway; the id alone, of 12, is no secret
    # JSON Web Tokens: provider tokens, callers' tokens. Looked for from where a word begins, or long words would take for ever.
    | (?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*?eyJ)[A-Za-z0-9_-]{9,}+\.[A-Za-z0-9_-]{4,}+\.[A-Za-z0-9_-]*+
    | hv[sbr]\.[A-Za-z0-9_-]{8,}                                 # tokens of Vault
    | (?<=-----BEGIN[ ])[A-Z ]*PRIVATE[ ]KEY-----[^-]*             # PEM, also where its lines are escaped
    | (?i:(?<=bearer[ ])|(?<=basic[ ])|(?<=apikey[ ]))(?=[a-z._~+/-]*[0-9A-Z=])[A-Za-z0-9._~+/=-]{8,}
    """,
    re.VERBOSE,
)
_HINTS = (
    "qgw_",
    "eyJ",
    "hvs.",
    "hvb.",
    "hvr.",
    "PRIVATE KEY",
    "earer ",
    "EARER ",
    "asic ",
    "ASIC ",
    "pikey ",
    "PIKEY ",
    "piKey ",
)
"""Texts without any of these have no such shape. Most texts are short and have none: to know that takes a microsecond."""


def redact(text: str) -> str:
    """Return a text with a mask in the place of each secret."""
    for secret in live_secrets():
        revealed = secret.reveal()
        if len(revealed) < _SHORTEST:
            continue
        if revealed in text:
            text = text.replace(revealed, MASK)
        if "\\" in text:
            text = text.replace(json.dumps(revealed)[1:-1], MASK)
    return _SHAPES.sub(MASK, text) if any(hint in text for hint in _HINTS) else text
