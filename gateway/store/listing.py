"""The query behind a listing of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, func, select

from gateway.domain.job import JobStatus
from gateway.domain.query import JobFilter
from gateway.store.codec import to_micros
from gateway.store.schema import is_unfinished, job_tags, jobs

_MOST_JOINS = 8
"""Tags of a filter that are found by a join each: SQLite joins 64 tables at most. More than these are found by counting."""
_UNFINISHED = frozenset(status for status in JobStatus if not status.is_final)


def page_of_jobs(where: JobFilter, *, cursor: int | None, oldest_first: bool) -> Select[Any]:
    """Return the query for `seq` and `document` of the jobs that a filter selects, in the order of their creation.

    Args:
        where: Which jobs.
        cursor: `seq` of the last job of the page before; None for the first page.
        oldest_first: The order, and with it the side of the cursor.
    """
    query = select(jobs.c.seq, jobs.c.document).where(*_conditions(where))
    seq: ColumnElement[int] = jobs.c.seq
    # Any of one tag is all of one tag, and a join is faster than a subquery.
    any_tags, all_tags = where.any_tags, where.all_tags
    if len(any_tags) == 1:
        any_tags, all_tags = frozenset(), all_tags | any_tags
    joined, counted = sorted(all_tags)[:_MOST_JOINS], sorted(all_tags)[_MOST_JOINS:]
    for tag in joined:
        tagged = job_tags.alias()
        query = query.join(
            tagged, and_(tagged.c.job_seq == jobs.c.seq, tagged.c.tag == tag, *_of_tenant(tagged, where))
        )
        # The index on tags holds the jobs of each in this order: nothing is sorted, and the page ends the search.
        seq = tagged.c.job_seq
    if counted:
        tagged = job_tags.alias()
        having_all = select(tagged.c.job_seq).where(tagged.c.tag.in_(counted), *_of_tenant(tagged, where))
        query = query.where(jobs.c.seq.in_(having_all.group_by(tagged.c.job_seq).having(func.count() == len(counted))))
    if any_tags:
        tagged = job_tags.alias()
        query = query.where(
            jobs.c.seq.in_(
                select(tagged.c.job_seq).where(tagged.c.tag.in_(sorted(any_tags)), *_of_tenant(tagged, where))
            )
        )
    if cursor is not None:
        query = query.where(seq > cursor if oldest_first else seq < cursor)
    return query.order_by(seq if oldest_first else seq.desc())


def _of_tenant(table: FromClause, where: JobFilter) -> tuple[ColumnElement[bool], ...]:
    return () if where.tenant is None else (table.c.tenant == where.tenant,)


def _conditions(where: JobFilter) -> Iterator[ColumnElement[bool]]:
    yield from _of_tenant(jobs, where)
    if where.statuses:
        yield jobs.c.status.in_(sorted(where.statuses))
        if where.statuses <= _UNFINISHED:
            yield is_unfinished
    if where.backends:
        yield jobs.c.backend.in_(sorted(where.backends))
    if where.accounts:
        yield jobs.c.account.in_(sorted(where.accounts))
    if where.display_name:
        yield jobs.c.display_name == where.display_name
    if where.session:
        yield jobs.c.session == where.session
    if where.created_from is not None:
        yield jobs.c.created_at >= to_micros(where.created_from)
    if where.created_to is not None:
        yield jobs.c.created_at <= to_micros(where.created_to)
