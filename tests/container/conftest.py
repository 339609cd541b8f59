"""A Docker engine, the project's image, and containers of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import BuildError
from docker.models.containers import Container
from docker.models.images import Image
from docker.models.volumes import Volume

from gateway.access.api_keys import hash_api_key, new_api_key
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PORT = "50051/tcp"
LOCAL_ACCOUNT = {"provider": "local", "parallel_jobs": 1, "memory_limit": 1024**3}


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """The Docker engine; without one, the tests are left out."""
    # The command is asked first, because the SDK leaks a socket when it finds no engine.
    if shutil.which("docker") is None:
        pytest.skip("there is no Docker on this machine")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no Docker engine answers ('docker info' fails)")
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: docker.DockerClient) -> Image:
    """The image, built from the working tree. `BASE` in the environment names another base image, as in `make image`."""
    arguments = {"BASE": os.environ["BASE"]} if "BASE" in os.environ else {}
    try:
        built, _ = engine.images.build(path=str(ROOT), tag="qgateway:test", buildargs=arguments, rm=True)
    except BuildError as error:
        pytest.fail("".join(line.get("stream", "") for line in error.build_log)[-4000:] + str(error))
    return built


class Gateway:
    """A container of the image that serves, and the key for it."""

    def __init__(self, container: Container, api_key: str) -> None:
        self.container = container
        self.api_key = api_key

    @property
    def target(self) -> str:
        """Address of the published port."""
        self.container.reload()
        published = self.container.ports[PORT][0]
        return f"{published['HostIp']}:{published['HostPort']}"

    @property
    def health(self) -> str:
        """What the image's health check says: `starting`, `healthy` or `unhealthy`."""
        self.container.reload()
        assert self.container.status == "running", self.container.logs().decode()
        return str(self.container.attrs["State"]["Health"]["Status"])

    def wait_until_healthy(self) -> None:
        """Wait for the first health check that succeeds."""
        wait_until(lambda: self.health == "healthy", within=90, every=0.2)

    def stop(self) -> int:
        """`docker stop`: return the exit code."""
        self.container.stop(timeout=40)
        return int(self.container.wait()["StatusCode"])


@pytest.fixture
def volume(engine: docker.DockerClient) -> Iterator[Volume]:
    """An empty volume."""
    made = engine.volumes.create()
    yield made
    made.remove(force=True)


@pytest.fixture
def run(engine: docker.DockerClient, image: Image, volume: Volume) -> Iterator[Callable[..., Container]]:
    """Starts a container of the image with all rights taken away and `volume` as its store; it is removed at the end."""
    started: list[Container] = []

    def start(environment: dict[str, str], **options: Any) -> Container:
        container = engine.containers.run(
            image.id,
            detach=True,
            environment=environment,
            read_only=True,
            tmpfs={"/tmp": ""},  # noqa: S108 -- a path in the container
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit="2g",
            pids_limit=512,
            ports={PORT: ("127.0.0.1", None)},
            volumes={volume.id: {"bind": "/data", "mode": "rw"}},
            **options,
        )
        started.append(container)
        return container

    yield start
    for container in started:
        container.remove(force=True)


@pytest.fixture
def serve(run: Callable[..., Container]) -> Callable[[], Gateway]:
    """Starts a gateway with the local provider that speaks plain text, on this machine only."""

    def start() -> Gateway:
        api_key = new_api_key()
        environment = {
            "GATEWAY_SERVER__ALLOW_INSECURE": "true",
            "GATEWAY_ACCESS__API_KEYS": json.dumps([{"name": "test", "sha256": hash_api_key(api_key)}]),
            "GATEWAY_ACCOUNTS": json.dumps({"local": LOCAL_ACCOUNT}),
        }
        return Gateway(run(environment), api_key)

    return start
