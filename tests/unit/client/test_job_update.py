"""Tags and name of a job."""

from __future__ import annotations

from typing import Any

import pytest
from qgateway import GatewayCircuitJob, IBMJobApiError, IBMJobInvalidStateError

from tests.support.refusals import refusal
from tests.unit.client.scripted_gateway import JOB_ID, ScriptedGateway


def test_tags_are_replaced(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    assert job.update_tags(["a", "b"]) == ["a", "b"]
    assert job.update_tags(["c"]) == ["c"]
    assert job.tags() == list(scripted.job.tags) == ["c"]
    assert job.update_tags([]) == []


def test_the_order_of_tags_is_kept_and_duplicates_are_dropped(job: GatewayCircuitJob) -> None:
    assert job.update_tags(["z", "a", "z", "m"]) == ["z", "a", "m"]


def test_the_returned_list_is_a_copy(job: GatewayCircuitJob) -> None:
    job.update_tags(["a"]).append("b")
    assert job.tags() == ["a"]


def test_protected_tags_are_kept(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.move(tags=["ibm_composite_job_1", "free", "ibmq_jobset_2"])
    # The handle does not know these tags yet: the etag tells it that it is behind.
    assert job.update_tags(["a"]) == ["ibm_composite_job_1", "ibmq_jobset_2", "a"]
    assert job.update_tags([]) == ["ibm_composite_job_1", "ibmq_jobset_2"]
    assert job.update_tags(["ibmq_jobset_2", "b"]) == ["ibm_composite_job_1", "ibmq_jobset_2", "b"]


@pytest.mark.parametrize("tags", [None, 3, "", "ab", (), ("a",), set(), {"a"}, {}, ["a", 1], [["a"]], [None]])
def test_anything_but_a_list_of_texts_is_an_invalid_state(
    job: GatewayCircuitJob, scripted: ScriptedGateway, tags: Any
) -> None:
    with pytest.raises(IBMJobInvalidStateError, match="job_tags needs to be a list of strings"):
        job.update_tags(tags)
    assert scripted.calls == []


def test_tags_that_the_gateway_refuses_are_an_invalid_state(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    violations = {"job.tags[0]": "must not be empty"}
    scripted.on("UpdateJob", refusal("INVALID_ARGUMENT", "job.tags[0]: must not be empty", violations=violations))
    with pytest.raises(IBMJobInvalidStateError, match="must not be empty") as caught:
        job.update_tags([""])
    assert caught.value.job_id == JOB_ID


def test_a_job_that_keeps_changing_is_given_up(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    scripted.on("UpdateJob", refusal("ABORTED", "The job changed.", reason="ETAG_MISMATCH"))
    with pytest.raises(IBMJobApiError, match="The job changed") as caught:
        job.update_tags(["a"])
    assert caught.value.reason == "ETAG_MISMATCH"
    assert scripted.count("UpdateJob") == 10


def test_a_name_is_stored(job: GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    assert job.update_name("my job") == "my job"
    assert job.name() == scripted.job.display_name == "my job"
    assert job.update_name("") == ""
    assert job.name() is None


@pytest.mark.parametrize("name", [None, 3, ["a"], b"a"])
def test_a_name_that_is_no_text_is_an_invalid_state(
    job: GatewayCircuitJob, scripted: ScriptedGateway, name: Any
) -> None:
    with pytest.raises(IBMJobInvalidStateError, match=r"name: .* is not text"):
        job.update_name(name)
    assert scripted.calls == []
