"""`JobService`: requests in, engine calls, messages out."""

from __future__ import annotations

from typing import Any

import grpc
from qgateway.v1 import job_service_pb2, result_pb2

from gateway.domain.errors import InvalidArgument
from gateway.domain.job import Job
from gateway.domain.provider import QueuePlace
from gateway.engine.engine import Engine
from gateway.engine.tokens import page_token, read_page_token
from gateway.rpc import job_messages, messages, requests
from gateway.rpc.interceptor import current_caller
from gateway.rpc.limits import Limits
from gateway.rpc.transfer_service import Transfers
from gateway.rpc.watch_streams import WatchStreams

_Context = grpc.aio.ServicerContext[Any, Any]


class JobService(Transfers):
    """Submit jobs, follow them, read their results."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        super().__init__(engine, limits)
        self._streams = WatchStreams(engine, limits, self._stalled)

    async def SubmitJob(  # type: ignore[override]  # responses with jobs are serialised already
        self, request: job_service_pb2.SubmitJobRequest, context: _Context
    ) -> bytes:
        """Accept a job."""
        caller, request_id = current_caller(), requests.request_id(request)
        wanted = requests.job_request(request, caller.tenant)
        job, duplicate = await self._engine.submissions.submit(caller, wanted, request_id)
        return job_messages.submit_job_response(job, await self._place(job), duplicate=duplicate)

    async def GetJob(  # type: ignore[override]  # as SubmitJob
        self, request: job_service_pb2.GetJobRequest, context: _Context
    ) -> bytes:
        """Read one job, by the gateway's id or the provider's."""
        if request.name.startswith("accounts/"):
            account, provider_job_id = requests.account_and_id("name", request.name, "providerJobs")
            job = await self._engine.adoptions.get(current_caller(), account, provider_job_id)
        else:
            job = await self._engine.jobs.get(current_caller(), _job_id(request.name))
        return job_messages.job_response(job, await self._engine.jobs.queue_place(job))

    async def ListJobs(  # type: ignore[override]  # as SubmitJob
        self, request: job_service_pb2.ListJobsRequest, context: _Context
    ) -> bytes:
        """List a page of jobs."""
        where = requests.job_filter("filter", request.filter, current_caller().tenant)
        if request.skip < 0:
            raise InvalidArgument.field("skip", "must not be negative")
        listing = job_service_pb2.ListJobsRequest(
            filter=request.filter, oldest_first=request.oldest_first, skip=request.skip
        ).SerializeToString(deterministic=True)
        page = await self._engine.jobs.list(
            where,
            limit=requests.page_size(request.page_size),
            cursor=read_page_token(request.page_token, listing) if request.page_token else None,
            oldest_first=request.oldest_first,
            skip=request.skip,
        )
        return job_messages.list_jobs_response(
            [(job, await self._place(job)) for job in page.jobs],
            "" if page.next_cursor is None else page_token(page.next_cursor, listing),
        )

    async def UpdateJob(  # type: ignore[override]  # as SubmitJob
        self, request: job_service_pb2.UpdateJobRequest, context: _Context
    ) -> bytes:
        """Change name or tags."""
        job_id = requests.resource_id("job.name", request.job.name, "jobs")
        paths = set(request.update_mask.paths)
        if not paths or not paths <= {"display_name", "tags"}:
            raise InvalidArgument.field("update_mask", "must name display_name, tags, or both, and nothing else")
        name = requests.display_name("job.display_name", request.job.display_name)
        tags = requests.tags("job.tags", request.job.tags)
        job = await self._engine.jobs.update(
            current_caller(),
            job_id,
            display_name=name if "display_name" in paths else None,
            tags=tags if "tags" in paths else None,
            etag=request.etag,
        )
        return job_messages.job_response(job, await self._place(job))

    async def CancelJob(  # type: ignore[override]  # as SubmitJob
        self, request: job_service_pb2.CancelJobRequest, context: _Context
    ) -> bytes:
        """Ask the provider to cancel, and tell what came of it."""
        job = await self._engine.jobs.cancel(current_caller(), _job_id(request.name))
        return job_messages.job_response(job, await self._place(job))

    async def DeleteJob(
        self, request: job_service_pb2.DeleteJobRequest, context: _Context
    ) -> job_service_pb2.DeleteJobResponse:
        """Delete a final job."""
        await self._engine.jobs.delete(current_caller(), _job_id(request.name))
        return job_service_pb2.DeleteJobResponse()

    async def WatchJob(  # type: ignore[override]  # it writes by itself, so that it knows when it has written
        self, request: job_service_pb2.WatchJobRequest, context: _Context
    ) -> None:
        """Follow one job."""
        await self._streams.watch_job(current_caller(), request, context)

    async def WatchJobs(  # type: ignore[override]  # as WatchJob
        self, request: job_service_pb2.WatchJobsRequest, context: _Context
    ) -> None:
        """Follow all jobs that match."""
        await self._streams.watch_jobs(current_caller(), request, context)

    async def ListJobEvents(  # type: ignore[override]  # as SubmitJob
        self, request: job_service_pb2.ListJobEventsRequest, context: _Context
    ) -> bytes:
        """List a page of a job's history."""
        size = requests.page_size(request.page_size)
        listing = request.name.encode()
        after = read_page_token(request.page_token, listing) if request.page_token else 0
        events = await self._engine.watches.events(current_caller(), _job_id(request.name), after=after, limit=size + 1)
        return job_messages.list_job_events_response(
            events[:size], page_token(events[size - 1].revision, listing) if len(events) > size else ""
        )

    async def GetJobResult(
        self, request: job_service_pb2.GetJobResultRequest, context: _Context
    ) -> job_service_pb2.GetJobResultResponse:
        """Read a result that fits into one message."""
        blob = await self._engine.results.select_result(
            current_caller(),
            _job_id(request.name),
            requests.experiments(request.experiments),
            include_counts=request.include_counts,
            omit_shots=request.omit_shots,
            max_bytes=self._limits.max_response_bytes,
        )
        return job_service_pb2.GetJobResultResponse(result=result_pb2.JobResult.FromString(blob))

    async def GetJobLogs(
        self, request: job_service_pb2.GetJobLogsRequest, context: _Context
    ) -> job_service_pb2.GetJobLogsResponse:
        """Read the provider's log."""
        return job_service_pb2.GetJobLogsResponse(
            text=await self._engine.records.logs(current_caller(), _job_id(request.name))
        )

    async def GetJobMetrics(
        self, request: job_service_pb2.GetJobMetricsRequest, context: _Context
    ) -> job_service_pb2.GetJobMetricsResponse:
        """Read times and cost."""
        job, metrics = await self._engine.records.metrics(current_caller(), _job_id(request.name))
        return job_service_pb2.GetJobMetricsResponse(
            steps=[
                job_service_pb2.JobStep(
                    status=job_messages.job_status(step.status), reach_time=messages.timestamp(step.reached_at)
                )
                for step in job.steps
            ],
            usage=job_messages.job_usage(job.usage),
            queue=job_messages.queue_info(metrics.queue),
            client_version=dict(job.client_version),
            provider_metrics=dict(metrics.values),
        )

    async def GetJobBackendProperties(
        self, request: job_service_pb2.GetJobBackendPropertiesRequest, context: _Context
    ) -> job_service_pb2.GetJobBackendPropertiesResponse:
        """Read the calibration of the run."""
        properties = await self._engine.records.backend_properties(current_caller(), _job_id(request.name))
        return job_service_pb2.GetJobBackendPropertiesResponse(properties=messages.backend_properties(properties))

    async def _place(self, job: Job) -> QueuePlace | None:
        # This may be one of hundreds: no provider is asked for it.
        return await self._engine.jobs.queue_place(job, ask=False)


def _job_id(name: str) -> str:
    return requests.resource_id("name", name, "jobs")
