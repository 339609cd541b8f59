from __future__ import annotations

from collections.abc import Callable

from qgateway.v1 import job_pb2, job_service_pb2

from benchmarks.stream_reader import Streams, reading
from tests.support.gateway_process import GatewayProcess
from tests.support.wire import connected

CONNECTIONS, STREAMS = 50, 100


def test_of_five_thousand_watches_opened_at_once_every_one_is_served(
    new_gateway: Callable[..., GatewayProcess],
) -> None:
    gateway = new_gateway({"SERVER__HEARTBEAT_INTERVAL": "60"}).start()
    with connected(gateway) as wire:
        job = wire.submit()
        wire.finish(job.name)
        where = job_pb2.JobFilter(statuses=[job_pb2.JOB_STATUS_DONE])
        watch = job_service_pb2.WatchJobsRequest(filter=where).SerializeToString().hex()
        headers = {"authorization": f"Bearer {gateway.api_key}"}
        storm = Streams(
            gateway.target,
            "/qgateway.v1.JobService/WatchJobs",
            watch,
            headers,
            connections=CONNECTIONS,
            streams=STREAMS,
        )
        # The reader fails at a stream that ends.
        with reading(storm) as reader:
            renamed = job_service_pb2.UpdateJobRequest(job=job_pb2.Job(name=job.name, display_name="seen by all"))
            renamed.update_mask.paths.append("display_name")
            wire.jobs.UpdateJob(renamed, metadata=wire.metadata, timeout=30)
            reader.command(f"all {CONNECTIONS * STREAMS}")
            assert len(reader.times()) == CONNECTIONS * STREAMS
