"""Jobs as plain data."""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.job import at_revision
from tests.unit.store.make import a_job


def test_a_job_at_another_revision_is_the_same_in_everything_else() -> None:
    job = a_job(display_name="a name", tags=("one",), revision=3)
    assert at_revision(job, 8) == replace(job, revision=8)
