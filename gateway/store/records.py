"""Records of runs in the store: what runs on the threads of the lanes.

A calibration is stored once for all the jobs that ran under it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, exists, select

from gateway.domain.backend import BackendProperties
from gateway.domain.record import JobRecord
from gateway.store.codec import Blob, decode_blob, decode_properties, encode_blob, encode_properties
from gateway.store.database import driver_connection
from gateway.store.schema import calibrations, insert_sql, jobs, records, records_due, sql

_ADD_DUE = insert_sql(records_due)
_DROP_DUE = sql(delete(records_due).where(records_due.c.job_seq == bindparam("job_seq")))
_ADD = insert_sql(records)
_FIND_CALIBRATION = sql(select(calibrations.c.size).where(calibrations.c.sha256 == bindparam("sha256")))
_ADD_CALIBRATION = insert_sql(calibrations)
_CALIBRATION_OF = sql(select(records.c.calibration_sha256).where(records.c.job_seq == bindparam("job_seq")))
_DROP = sql(delete(records).where(records.c.job_seq == bindparam("job_seq")))
_DROP_CALIBRATION = sql(
    delete(calibrations).where(
        calibrations.c.sha256 == bindparam("sha256"),
        ~exists().where(records.c.calibration_sha256 == calibrations.c.sha256),
    )
)


@dataclass(frozen=True, slots=True)
class EncodedRecord:
    """A record as it is stored."""

    metrics: str
    calibration: Blob | None


def encode_record(record: JobRecord) -> EncodedRecord:
    """Return a record as it is stored. It takes milliseconds for a large device."""
    calibration = None if record.properties is None else encode_blob(encode_properties(record.properties))
    return EncodedRecord(json.dumps(dict(record.metrics)), calibration)


class RecordWrites:
    """The writes of records, each to be called inside a transaction.

    Args:
        connection: The only connection that writes.
    """

    def __init__(self, connection: Connection) -> None:
        self._execute = driver_connection(connection).execute

    def note_due(self, job_seq: int) -> None:
        """Note that the record of a job is to be made."""
        self._execute(_ADD_DUE, {"job_seq": job_seq})

    def add(self, job_seq: int, record: EncodedRecord) -> None:
        """Store the record of a job, instead of an earlier one. It is no longer due."""
        self.drop(job_seq)
        calibration = record.calibration
        if calibration is not None and not self._execute(_FIND_CALIBRATION, {"sha256": calibration.sha256}).fetchone():
            columns = {"size": calibration.size, "encoding": calibration.encoding.value, "data": calibration.data}
            self._execute(_ADD_CALIBRATION, {"sha256": calibration.sha256, **columns})
        address = None if calibration is None else calibration.sha256
        self._execute(_ADD, {"job_seq": job_seq, "metrics": record.metrics, "calibration_sha256": address})

    def drop(self, job_seq: int) -> None:
        """Delete the record of a job, and its calibration unless another job ran under it."""
        self._execute(_DROP_DUE, {"job_seq": job_seq})
        found = self._execute(_CALIBRATION_OF, {"job_seq": job_seq}).fetchone()
        if found is None:
            return
        self._execute(_DROP, {"job_seq": job_seq})
        if found[0] is not None:
            self._execute(_DROP_CALIBRATION, {"sha256": found[0]})


class RecordReads:
    """The reads of records.

    Args:
        connection: A connection of the thread's own.
    """

    def __init__(self, connection: Connection) -> None:
        self._core = connection

    def due(self, account: str) -> tuple[str, ...]:
        """Return the ids of the jobs of an account whose record is to be made, the oldest first."""
        query = select(jobs.c.id).join(records_due).where(jobs.c.account == account).order_by(records_due.c.job_seq)
        return tuple(self._core.scalars(query))

    def metrics(self, job_id: str) -> dict[str, str] | None:
        """Return the metrics in a job's record, or None if it has no record."""
        text = self._core.scalar(select(records.c.metrics).join(jobs).where(jobs.c.id == job_id))
        return None if text is None else dict(json.loads(text))

    def calibration(self, job_id: str) -> BackendProperties | None:
        """Return the calibration in a job's record, or None if it has none."""
        query = (
            select(calibrations)
            .join(records, records.c.calibration_sha256 == calibrations.c.sha256)
            .join(jobs, jobs.c.seq == records.c.job_seq)
            .where(jobs.c.id == job_id)
        )
        row = self._core.execute(query).one_or_none()
        return None if row is None else decode_properties(decode_blob(row.encoding, row.size, row.data))
