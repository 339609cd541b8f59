"""Asks PyPI for known weaknesses of the pinned dependencies.

Fails if there are any. Passes, and says so, where PyPI cannot be reached, or a mirror in its place tells nothing of weaknesses.
"""

from __future__ import annotations

import json
import subprocess
import sys

_SECONDS = 180


def main() -> int:
    """Run pip-audit; return its verdict as an exit code."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "-r",
        "constraints.txt",
        "--no-deps",
        "--disable-pip",
        "--format",
        "json",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        report = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, LookupError):
        print("pip-audit: the service that knows of weaknesses cannot be reached from here; nothing was audited.")
        return 0
    audited = [entry for entry in report if "skip_reason" not in entry]
    if not audited:
        print("pip-audit: the index that is used here tells nothing of weaknesses; nothing was audited.")
        return 0
    weak = [entry for entry in audited if entry["vulns"]]
    for entry in weak:
        known = ", ".join(
            f"{each['id']} (mended in {', '.join(each['fix_versions']) or 'no version'})" for each in entry["vulns"]
        )
        print(f"{entry['name']} {entry['version']}: {known}")
    print(f"pip-audit: {len(audited)} of {len(report)} dependencies audited, {len(weak)} with known weaknesses.")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
