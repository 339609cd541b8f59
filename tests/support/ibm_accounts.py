"""Settings of accounts of IBM Quantum that live on the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.emulators.ibm_quantum.process import EmulatorProcess

FAST = {"shortest_poll": 0.05, "longest_poll": 0.5, "submits_per_minute": 60_000, "settle_seconds": 1}
"""Settings of an account with which a test need not wait."""


def ibm_account(emulator: EmulatorProcess, name: str, **changes: Any) -> dict[str, Any]:
    """Return the settings of an account of the emulator, without its key.

    Args:
        emulator: The emulator.
        name: Name of the account there.
        changes: Settings to add or to change; those that are None are left out.
    """
    settings = {
        "provider": "ibm",
        "crn": emulator.crn(name),
        "api_url": f"{emulator.url}/api/v1",
        "iam_url": emulator.url,
        "use_environment": False,
        **FAST,
        **changes,
    }
    return {key: value for key, value in settings.items() if value is not None}


def one_ibm_account(emulator: EmulatorProcess, folder: Path, **changes: Any) -> dict[str, str]:
    """Return the settings of a gateway whose only account is `alpha`, with its key in a file.

    Args:
        emulator: The emulator.
        folder: Where to put the file.
        changes: As in `ibm_account`.
    """
    key = folder / "alpha.key"
    key.write_text(emulator.api_key("alpha"))
    return {"ACCOUNTS": json.dumps({"alpha": ibm_account(emulator, "alpha", key_file=str(key), **changes)})}
