"""The control route from the outside: what tests call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import requests

from tests.support.leaks import WATCH

_TIMEOUT = 60.0


class EmulatorControl:
    """Steers a running emulator.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/_control"
        self._session = requests.Session()
        # The emulator is near; no proxy lies between.
        self._session.trust_env = False

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def reset(self) -> None:
        """Put everything back to the start: no jobs, no faults, first keys and settings."""
        self._call("POST", "/reset")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings by the names of `settings.Settings`, and return all."""
        return self._call("PATCH", "/settings", changes)

    def fault(self, route: str, action: str, **fields: Any) -> int:
        """Put a fault in force, with the fields of `faults.FaultSpec`, and return its id."""
        return cast("int", self._call("POST", "/faults", {"route": route, "action": action, **fields})["id"])

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults in force, with how often each one hit."""
        return cast("list[dict[str, Any]]", self._call("GET", "/faults")["faults"])

    def clear_faults(self, number: int | None = None) -> None:
        """Take one fault, or all, out of force."""
        self._call("DELETE", "/faults" if number is None else f"/faults/{number}")

    def counts(self) -> dict[str, int]:
        """Return how many calls there were, by route as in `GET /jobs/{job_id}`."""
        return cast("dict[str, int]", self._call("GET", "/calls")["counts"])

    def calls(self, route: str | None = None) -> list[dict[str, Any]]:
        """Return the last calls, oldest first; of one route, if it is named."""
        query = {} if route is None else {"route": route}
        return cast("list[dict[str, Any]]", self._call("GET", "/calls", query=query)["calls"])

    def clear_calls(self) -> None:
        """Begin to count anew."""
        self._call("DELETE", "/calls")

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs that ever were, of all instances, oldest first, without programs and results."""
        return cast("list[dict[str, Any]]", self._call("GET", "/jobs")["jobs"])

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job, with the program that was submitted and the text of its results."""
        return self._call("GET", f"/jobs/{job_id}")

    def advance(self, job_id: str, to: str, **fields: Any) -> None:
        """Bring a job into a state; wait until it is there. Fields are those of `control.Advance`."""
        self._call("POST", f"/jobs/{job_id}/advance", {"to": to, **fields})

    def change_job(self, job_id: str, **changes: Any) -> None:
        """Change what a job says about itself, by the names of `control.JobChange`."""
        self._call("PATCH", f"/jobs/{job_id}", changes)

    def forget(self, job_id: str) -> None:
        """Let the service forget a job."""
        self.change_job(job_id, forgotten=True)

    def sessions(self) -> list[dict[str, Any]]:
        """Return all sessions of all instances."""
        return cast("list[dict[str, Any]]", self._call("GET", "/sessions")["sessions"])

    def expire_tokens(self) -> None:
        """Make all tokens invalid that were issued so far."""
        self._call("POST", "/tokens", {"action": "expire"})

    def tokens(self) -> list[str]:
        """Return the last tokens that were issued, oldest first."""
        return cast("list[str]", self._call("GET", "/tokens")["tokens"])

    def accounts(self) -> dict[str, dict[str, Any]]:
        """Return the accounts with their keys and instances."""
        return cast("dict[str, dict[str, Any]]", self._call("GET", "/accounts")["accounts"])

    def change_keys(self, account: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Give an account API keys and take others away; tokens that were got with them stay valid."""
        for key in add:
            WATCH.canaries.plant("a new key of the provider", key)
        self._call("POST", f"/accounts/{account}/keys", {"add": list(add), "remove": list(remove)})

    def change_instance(self, name: str, **changes: Any) -> None:
        """Change an instance, by the names of `control.InstanceChange`."""
        self._call("PATCH", f"/instances/{name}", changes)

    def change_backend(self, name: str, **changes: Any) -> None:
        """Change a backend, by the names of `control.DeviceChange`."""
        self._call("PATCH", f"/backends/{name}", changes)

    def _call(self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        reply = self._session.request(method, self._url + path, json=body, params=query, timeout=_TIMEOUT)
        assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text}"
        return cast("dict[str, Any]", reply.json())
