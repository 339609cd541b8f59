"""A gateway with two tenants, callers of all kinds, and things that belong to one of the tenants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from qgateway.v1 import admin_service_pb2, admin_service_pb2_grpc, job_pb2

from gateway.domain.access import Role
from gateway.domain.job import utc_now
from gateway.rpc.method_rules import methods, path_of
from tests.access.requests import REQUESTS, Request, Subject, upload
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import BELL, LONG, Wire, details, submission

OWNER, OTHER = "physics", "chemistry"
REFUSED = {
    "no credentials": "API_KEY_MISSING",
    "bad key": "API_KEY_INVALID",
    "expired key": "API_KEY_EXPIRED",
    "revoked key": "API_KEY_REVOKED",
}
"""Callers who are nobody, and the reason that they are given."""
ROLES = {"other tenant": Role.SUBMITTER, **{role.value: role for role in Role}}
"""Callers who are somebody, and their roles. All but the first are of the tenant `OWNER`."""
CALLERS = (*REFUSED, *ROLES)
"""The columns of the table."""
OTHER_OPERATOR = "operator of the other tenant"
"""A caller who is in no column: what operators may do is the same for all of them, but for what belongs to a tenant."""

METHODS: Mapping[str, MethodDescriptor] = {
    f"{method.containing_service.name}/{method.name}": method for method in methods()
}
"""All RPCs, as requests name them."""
_OWNED_UPLOAD = submission(BELL + "// by the owner").program.SerializeToString(deterministic=True)


@dataclass(frozen=True)
class Outcome:
    """What came of a call: everything that its caller can see."""

    reason: str
    """`OK`, or the reason of the error."""
    code: str
    message: str
    body: bytes
    """The response, or the trailers of the error."""

    def about(self, name: str) -> tuple[str, str, str, bytes]:
        """Return all of it, with a mark in the place of the name that was asked for."""
        bare = name.rpartition("/")[2]
        message, body = self.message.replace(bare, "NAME"), self.body.replace(bare.encode(), b"NAME")
        return self.reason, self.code, message, body


class World:
    """Makes calls as every kind of caller, about things of the tenant `OWNER`."""

    def __init__(self, gateway: GatewayProcess, channel: grpc.Channel) -> None:
        self._channel = channel
        self._root = (("authorization", f"Bearer {gateway.api_key}"),)
        self._admin = admin_service_pb2_grpc.AdminServiceStub(channel)
        keys = {role.value: self._new_key(OWNER, role).secret for role in Role}
        revoked = self._new_key(OWNER, Role.OPERATOR)
        self._admin.RevokeApiKey(
            admin_service_pb2.RevokeApiKeyRequest(name=revoked.api_key.name), metadata=self._root, timeout=20
        )
        expiring = self._new_key(OWNER, Role.OPERATOR, expire_time=utc_now() + timedelta(seconds=1))
        operator = keys[Role.OPERATOR.value]
        self._keys = {
            "bad key": operator[:-1] + ("B" if operator.endswith("A") else "A"),
            "expired key": expiring.secret,
            "revoked key": revoked.secret,
            "other tenant": self._new_key(OTHER, Role.SUBMITTER).secret,
            OTHER_OPERATOR: self._new_key(OTHER, Role.OPERATOR).secret,
            **keys,
        }
        self._owner = Wire(channel, keys[Role.SUBMITTER.value])
        self._shared: dict[Subject, str] = {}
        probe = next(request for request in REQUESTS if request.method == "ServerService/GetServerInfo")
        wait_until(lambda: self.call(probe, "expired key").reason == REFUSED["expired key"])

    def call(self, request: Request, caller: str, subject: str = "") -> Outcome:
        """Make a call, and wait for its answer; of a stream, for the first message."""
        method, message = METHODS[request.method], request.make(subject)
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        call = getattr(self._channel, kind)(
            path_of(method),
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        key = self._keys.get(caller)
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        try:
            answer = call(iter(message) if method.client_streaming else message, metadata=metadata, timeout=60)
            if method.server_streaming:
                stream, answer = answer, next(answer)
                stream.cancel()
        except grpc.RpcError as error:
            reason = details(error)["ErrorInfo"].reason
            trailers = sorted(
                (name, bytes(value)) for name, value in error.trailing_metadata() if name.endswith("-bin")
            )
            return Outcome(reason, error.code().name, error.details(), b"\n".join(value for _, value in trailers))
        return Outcome("OK", "OK", "", answer.SerializeToString(deterministic=True))

    def subject(self, kind: Subject, *, fresh: bool) -> str:
        """Return the name of something that belongs to the owner; of a new one if it is to be `fresh`."""
        if fresh:
            return self._new(kind)
        if kind not in self._shared:
            self._shared[kind] = self._new(kind)
        return self._shared[kind]

    def _new(self, kind: Subject) -> str:
        make = {
            Subject.FINISHED_JOB: lambda: self._finished_job().name,
            Subject.ADOPTABLE_JOB: self._provider_job,
            Subject.UNFINISHED_JOB: lambda: self._owner.submit(LONG).name,
            Subject.SESSION: lambda: self._owner.open_session(mode=job_pb2.SCHEDULING_MODE_BATCH).name,
            Subject.PROGRAM: self._uploaded_program,
            Subject.API_KEY: lambda: self._new_key(OWNER, Role.VIEWER).api_key.name,
            Subject.NONE: lambda: "",
        }
        return make[kind]()

    def _provider_job(self) -> str:
        job = self._finished_job()
        return f"accounts/{job.account}/providerJobs/{job.provider_job_id}"

    def _uploaded_program(self) -> str:
        self._owner.jobs.UploadProgram(iter(upload(_OWNED_UPLOAD)), metadata=self._owner.metadata, timeout=20)
        return hashlib.sha256(_OWNED_UPLOAD).hexdigest()

    def _finished_job(self) -> job_pb2.Job:
        return self._owner.finish(self._owner.submit().name)

    def _new_key(self, tenant: str, role: Role, **fields: Any) -> admin_service_pb2.CreateApiKeyResponse:
        number = admin_service_pb2.Role.Value(f"ROLE_{role.name}")
        key = admin_service_pb2.ApiKey(tenant=tenant, roles=[number], display_name=f"{tenant}-{role}", **fields)
        request = admin_service_pb2.CreateApiKeyRequest(api_key=key)
        made: admin_service_pb2.CreateApiKeyResponse = self._admin.CreateApiKey(
            request, metadata=self._root, timeout=20
        )
        return made


def absent(name: str) -> str:
    """Return a name of the same form as another, of which there is nothing."""
    end = name[-6:]
    return name[:-6] + end[1:] + end[0]
