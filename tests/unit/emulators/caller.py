"""A bare caller of the service: one HTTP request per call, no retries."""

from __future__ import annotations

from typing import Any

import requests

from tests.support.waiting import wait_until

BELL = """OPENQASM 3.0;
include "stdgates.inc";
bit[2] c;
rz(pi/2) $0; sx $0; rz(pi/2) $0;
rz(pi/2) $1; sx $1; rz(pi/2) $1;
cz $0, $1;
rz(pi/2) $1; sx $1; rz(pi/2) $1;
c[0] = measure $0;
c[1] = measure $1;
"""

GRANT_TYPE = "urn:ibm:params:oauth:grant-type:apikey"


class Caller:
    """Calls the job API for one instance.

    Args:
        base: Address of the API, with its prefix.
        iam: Address of IAM.
        api_key: Key of the account.
        crn: The instance.
    """

    def __init__(self, base: str, iam: str, api_key: str, crn: str) -> None:
        self.base = base
        self.iam = iam
        self.api_key = api_key
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update({"Service-CRN": crn, "IBM-API-Version": "2026-04-15"})

    def close(self) -> None:
        """Close all connections."""
        self.session.close()

    def exchange(self, api_key: str | None = None) -> requests.Response:
        """Ask IAM for a token."""
        form = {"grant_type": GRANT_TYPE, "apikey": api_key or self.api_key, "response_type": "cloud_iam"}
        headers = {"Service-CRN": None, "Authorization": None}
        return self.session.post(f"{self.iam}/identity/token", data=form, headers=headers, timeout=10)

    def log_in(self, api_key: str | None = None) -> None:
        """Use a new token from now on."""
        self.session.headers["Authorization"] = f"Bearer {self.exchange(api_key).json()['access_token']}"

    def call(self, method: str, path: str, *, timeout: float = 10, **arguments: Any) -> requests.Response:
        """Make a call, with a token."""
        if "Authorization" not in self.session.headers:
            self.log_in()
        return self.session.request(method, self.base + path, timeout=timeout, **arguments)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a call that must succeed."""
        reply = self.call("GET", path, params=query)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def submit(self, *, timeout: float = 10, **fields: Any) -> requests.Response:
        """Submit a job: by default a small sampler program."""
        body = {"program_id": "sampler", "backend": "ibm_alder", "params": sampler_params(), **fields}
        return self.call("POST", "/jobs", timeout=timeout, json=body)

    def new_job(self, **fields: Any) -> str:
        """Submit a job, which must be accepted, and return its id."""
        reply = self.submit(**fields)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["id"])

    def state(self, job_id: str) -> dict[str, Any]:
        """Return what a job says about its state."""
        state: dict[str, Any] = self.get(f"/jobs/{job_id}", exclude_params="true")["state"]
        return state

    def ended(self, job_id: str) -> dict[str, Any]:
        """Wait until a job is final, and return what it says about its state."""

        def final() -> dict[str, Any]:
            state = self.state(job_id)
            return {} if state["status"] in ("Queued", "Running") else state

        return wait_until(final)

    def result(self, job_id: str) -> Any:
        """Wait until a job is completed, and return its result."""
        state = self.ended(job_id)
        assert state == {"status": "Completed"}
        return self.get(f"/jobs/{job_id}/results")


def sampler_params(circuit: str = BELL, shots: int = 8, **fields: Any) -> dict[str, Any]:
    """Return a sampler program in plain form."""
    return {"pubs": [[circuit, None, shots]], "version": 2, "support_qiskit": False, **fields}
