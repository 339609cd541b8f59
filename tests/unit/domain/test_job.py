"""Jobs as plain data."""

from __future__ import annotations

import re
import time
from dataclasses import replace

from gateway.domain.job import at_revision, new_id
from tests.unit.store.make import a_job


def test_a_job_at_another_revision_is_the_same_in_everything_else() -> None:
    job = a_job(display_name="a name", tags=("one",), revision=3)
    assert at_revision(job, 8) == replace(job, revision=8)


def test_no_two_ids_are_the_same_even_of_one_moment() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", each) for each in ids)


def test_an_id_that_is_made_later_is_the_greater_one() -> None:
    ids = []
    for _ in range(5):
        ids.append(new_id())
        made_at = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 == made_at:
            pass
    assert ids == sorted(ids)


def test_an_id_tells_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    letters = new_id()[:10]
    millis = int(letters.translate(str.maketrans("ghjkmnpqrstvwxyz", "ghijklmnopqrstuv")), 32)
    assert before <= millis <= time.time_ns() // 1_000_000
