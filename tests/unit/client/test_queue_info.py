"""A place in the queue."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest
from qgateway import QueueInfo
from qgateway._times import duration_text, parse_datetime, to_duration, to_timestamp
from qgateway.v1 import job_pb2


def test_zero_is_a_position_and_text_is_read() -> None:
    assert QueueInfo(position_in_queue=0).position == 0
    assert QueueInfo(position_in_queue="3").position == 3
    assert QueueInfo(position_in_queue="").position is None
    assert QueueInfo().position is None
    with pytest.raises(ValueError, match="seven"):
        QueueInfo(position_in_queue="seven")


def test_times_are_aware_and_offsets_are_honoured() -> None:
    info = QueueInfo(estimated_start_time="2024-01-01T10:00:00+05:00", estimated_completion_time=datetime(2024, 1, 1))  # noqa: DTZ001
    assert info.estimated_start_time == datetime(2024, 1, 1, 5, tzinfo=UTC)
    assert info.estimated_complete_time == datetime(2024, 1, 1).astimezone()


def test_further_facts_are_kept_under_their_own_name() -> None:
    info = QueueInfo(colour="blue")
    assert info.colour == "blue"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        _ = info.shape  # type: ignore[attr-defined]


def test_the_representation_is_that_of_the_original() -> None:
    assert repr(QueueInfo(3, "QUEUED", job_id="abc")) == (
        "<QueueInfo(job_id='abc', _status='QUEUED', estimated_start_time='None', estimated_complete_time='None', "
        "position=3, hub_priority=None, group_priority=None, project_priority=None)>"
    )
    assert "_status='unknown'" in repr(QueueInfo())


def test_format_gives_eight_lines() -> None:
    start = datetime.now(UTC) + timedelta(minutes=5, seconds=30)
    lines = QueueInfo(0, "QUEUED", start, job_id="abc", hub_priority=0).format().splitlines()
    assert lines[0] == "Job abc queue information:"
    assert lines[1:3] == ["    queue position: 0", "    status: job is queued"]
    assert lines[3].startswith("    estimated start time: 5 min ")
    assert lines[4:] == [
        "    estimated completion time: unknown",
        "    hub priority: 0",
        "    group priority: unknown",
        "    project priority: unknown",
    ]


def test_a_status_that_is_not_known_is_shown_as_it_is() -> None:
    assert "status: PONDERING" in QueueInfo(1, "PONDERING").format()


def test_it_can_be_copied_and_pickled() -> None:
    info = QueueInfo(2, "QUEUED", datetime.now(UTC), job_id="abc", colour="blue")
    for twin in (copy.deepcopy(info), pickle.loads(pickle.dumps(info))):  # noqa: S301 - our own
        assert vars(twin) == vars(info)


def test_a_message_that_tells_nothing_is_nothing() -> None:
    assert QueueInfo.from_message(job_pb2.QueueInfo(), status="QUEUED", job_id="abc") is None
    only_position = QueueInfo.from_message(job_pb2.QueueInfo(position=0), status="QUEUED", job_id="abc")
    assert only_position is not None
    assert (only_position.position, only_position.job_id) == (0, "abc")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 sec"), (0.4, "0 sec"), (9, "9 sec"), (61, "1 min 1 sec"), (3660, "1 hrs 1 min"), (90_000, "1 days 1 hrs")],
)
def test_durations_are_told_by_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_points_in_time_are_converted_and_not_overwritten() -> None:
    nine = datetime(2024, 1, 1, 9, tzinfo=timezone(timedelta(hours=2)))
    assert to_timestamp(nine).ToDatetime(tzinfo=UTC) == nine
    assert parse_datetime("2024-01-01 09:00+02:00") == nine
    with pytest.raises(TypeError, match="int"):
        parse_datetime(5)  # type: ignore[arg-type]


def test_seconds_become_durations_without_loss() -> None:
    for value in (0.0, 0.00025, 1.5, 59.999999999, 3600.0):
        assert to_duration(value).ToTimedelta().total_seconds() == pytest.approx(value, abs=1e-6)
    assert to_duration(0.9999999999).seconds == 1
