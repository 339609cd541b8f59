"""The handle of a job against the behaviour of `IBMCircuitJob` 0.7.3: what is kept, what is better, what was open.

What users of the original depend on, and the test that keeps it:

| kept | test |
|---|---|
| member names, parameters, defaults, order | test_parity.py::test_members_have_the_names_parameters_and_defaults_of_the_original |
| properties versus methods | test_parity.py::test_properties_are_properties_and_calls_are_calls |
| exception classes and bases | test_exceptions.py::test_names_and_bases_are_those_of_the_original |
| status mapping | test_job.py::test_each_status_of_the_wire_is_that_of_qiskit |
| result cached, the same object | test_job_result.py::test_a_result_is_read_once_and_stays_the_same_object |
| `timeout=0` checks once | test_job_wait.py::test_a_timeout_of_zero_or_less_checks_once |
| local aware datetimes | test_job.py::test_dates_are_aware_and_local |
| `tags()` a copy | test_job.py::test_tags_are_a_copy |
| `submit()` raises | test_job.py::test_submit_refuses |
| `repr` | test_job.py::test_the_representation_names_class_and_id |
| `cancel()` of a finished job raises | test_job.py::test_cancelling_a_finished_job_is_an_invalid_state |
| protected tag prefixes | test_job_update.py::test_protected_tags_are_kept |

What the original got wrong, and the test that shows it right:

| # | better | test |
|---|---|---|
| 1 | results are read by anyone, any number of times | test_job_result.py::test_any_handle_reads_the_result_any_number_of_times |
| 2 | waiting does not poll | test_job_wait.py::test_waiting_is_one_stream_and_no_polling |
| 3 | timeouts hold | test_job_wait.py::test_a_timeout_is_honoured_within_50_ms |
| 3 | `wait` and `callback` are accepted | test_job_wait.py::test_a_callback_is_called_for_each_change |
| 3 | transient errors are borne | test_job_wait.py::test_waiting_survives_a_broken_stream |
| 4 | a fresh job knows what was submitted | test_backend.py::test_a_fresh_job_knows_its_tags_name_date_and_status |
| 5 | `update_name` names | test_job_update.py::test_a_name_is_stored |
| 5 | `scheduling_mode` tells | test_job.py::test_the_scheduling_mode_is_told |
| 6 | further facts have a trailing underscore | test_job.py::test_further_facts_are_attributes_with_a_trailing_underscore |
| 7 | no header is `{}`, no circuits are `[]` | test_job.py::test_what_is_absent_is_empty |
| 8 | every error of a call is an `IBMJobApiError` | test_job.py::test_every_failed_call_is_an_api_error_with_its_cause |
| 8 | so is a damaged result | test_job_result.py::test_a_result_that_cannot_be_read_is_an_api_error |
| 9 | an unknown status is not final | test_job_wait.py::test_an_unknown_status_is_not_final |
| 9 | and does not break a listing | test_provider.py::test_a_record_with_an_unknown_status_does_not_break_a_listing |
| 10 | `cancel()` says what the gateway says | test_job.py::test_cancel_says_whether_the_job_is_cancelled_now |
| 11 | final statuses stay | test_job.py::test_a_final_status_stays_whatever_comes_later |
| 12 | `refresh()` keeps the result | test_job_result.py::test_refresh_does_not_read_the_result_again |
| 13 | exceptions carry reason, code and job id | test_job_result.py::test_a_cancelled_job_says_why |
| 14 | the queue is told as it is | test_job_facts.py::test_queue_info_is_given_when_anything_is_known |
| 15 | tags are checked first, in order, and copied | test_job_update.py::test_anything_but_a_list_of_texts_is_an_invalid_state |
| 15 | | test_job_update.py::test_the_order_of_tags_is_kept_and_duplicates_are_dropped |
| 16 | calibration is that of the run, and cached | test_job_facts.py::test_properties_are_those_of_the_run_and_are_cached |
| 17 | offsets are converted | test_queue_info.py::test_points_in_time_are_converted_and_not_overwritten |
| 18 | the keys of the steps are documented | test_job_facts.py::test_steps_have_both_spellings |
| 19 | property errors are not masked | test_job.py::test_errors_within_properties_are_not_masked |
| 20 | equality, hash | test_job.py::test_handles_are_equal_by_id_and_gateway |
| 20 | copies and pickles | test_job.py::test_a_handle_can_be_pickled_and_copied |
| 21 | `session_id` | test_job_facts.py::test_the_session_is_told |
| 21 | history | test_job_facts.py::test_the_history_is_told |
| 22 | usage is asked for again | test_job_facts.py::test_usage_is_asked_for_until_it_is_known_for_good |
| 23 | nothing in a payload runs code | test_programs.py::test_qpy_that_could_run_code_is_not_read |
| 24 | pages without gap or duplicate | test_provider.py::test_pages_are_put_together_without_gap_or_duplicate |
| 24 | unknown statuses refused | test_provider.py::test_an_unknown_status_is_refused |
| 24 | no side effects | test_provider.py::test_a_listing_costs_one_request_and_touches_no_backend |
| 25 | any sequence of circuits | test_programs.py::test_one_circuit_a_list_a_tuple_and_a_generator_are_accepted |
| 25 | arguments are checked before sending | test_backend.py::test_a_wrong_argument_sends_nothing |
| 26 | leaving a `with` block closes the session | test_session.py::test_leaving_the_block_closes_the_session |
| 27 | `job_monitor` | test_monitor.py::test_the_line_follows_the_job_from_the_queue_to_the_end |
| 27 | stdout at the time of the call | test_monitor.py::test_standard_output_is_looked_up_at_the_time_of_the_call |
| 28 | threads | test_job_result.py::test_threads_that_ask_at_once_read_the_result_once |

What the original left open:

| decided | test |
|---|---|
| a cancelled job has no result | test_job_result.py::test_a_cancelled_job_says_why |
| `error_message()` of a cancelled job is None | test_job.py::test_only_a_failed_job_has_an_error_message |
| `success=False` does not raise | test_job_result.py::test_an_unsuccessful_result_is_returned |
| a final job has no place in the queue | test_job_facts.py::test_a_final_job_has_no_place_in_the_queue |
| timeouts run on the monotonic clock | test_job_wait.py::test_a_timeout_is_honoured_within_50_ms |
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from qgateway import (
    GatewayCircuitJob,
)
from qiskit.providers import JobV1

REQUIRED = inspect.Parameter.empty


MEMBERS: dict[str, dict[str, Any]] = {
    "backend": {},
    "backend_options": {},
    "cancel": {},
    "cancelled": {},
    "circuits": {},
    "creation_date": {},
    "done": {},
    "error_message": {},
    "header": {},
    "in_final_state": {},
    "job_id": {},
    "name": {},
    "properties": {"refresh": False},
    "queue_info": {},
    "queue_position": {"refresh": False},
    "refresh": {},
    "result": {"timeout": None, "refresh": False},
    "running": {},
    "scheduling_mode": {},
    "status": {},
    "submit": {},
    "tags": {},
    "time_per_step": {},
    "update_name": {"name": REQUIRED},
    "update_tags": {"new_tags": REQUIRED},
    "wait_for_final_state": {"timeout": None, "wait": 3},
}


def test_every_test_of_the_table_exists() -> None:
    named = re.findall(r"\| (test_\w+\.py)::(test_\w+) \|", __doc__ or "")
    assert len(named) > 50
    for file, name in named:
        assert f"def {name}(" in Path(__file__).with_name(file).read_text(), f"{file}::{name}"


def test_members_have_the_names_parameters_and_defaults_of_the_original() -> None:
    for name, parameters in MEMBERS.items():
        signature = inspect.signature(getattr(GatewayCircuitJob, name))
        found = {each.name: each.default for each in list(signature.parameters.values())[1:]}
        assert list(found.items())[: len(parameters)] == list(parameters.items()), name
    further = list(inspect.signature(GatewayCircuitJob.wait_for_final_state).parameters)[3:]
    assert further == ["callback"]  # as in JobV1, which the original does not honour


def test_properties_are_properties_and_calls_are_calls(job: GatewayCircuitJob) -> None:
    for name in ("client_version", "usage_estimation"):
        assert isinstance(getattr(GatewayCircuitJob, name), property)
    for name in MEMBERS:
        assert callable(getattr(job, name))
    assert isinstance(job, JobV1)
    assert GatewayCircuitJob.version == 1
    assert job.metadata == {}
