"""Write what is made from the contract beside the stubs: the service config of the clients, and the reference of the API.

    contract.py DESCRIPTORS FOLDER

DESCRIPTORS is a serialised `FileDescriptorSet` with source info; FOLDER gets `service_config.json` and `api.md`. The module
`qgateway.v1.method_rules_pb2` must be on the path. Run by scripts/protos.sh.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from qgateway.v1 import method_rules_pb2

_RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
"""Up to five attempts in about three seconds."""

_HEAD = """# The API

Made by `make protos` from `protos/qgateway/v1`; do not edit.

Every call bears `authorization: Bearer KEY` as metadata. What a caller may do follows from its role: a viewer has the scopes that
read, a submitter also `jobs.write` and `sessions.write`, an operator all. A call without a deadline gets the one of the table.
A call that may be repeated is repeated by the clients when the gateway is UNAVAILABLE: `service_config.json`, beside the stubs of
each client, is made for that. Calls that are recorded appear in the audit trail, also when they are refused. Every error carries
a `google.rpc.ErrorInfo` of the domain `qgateway`.
"""

_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
"""Numbers of the fields of FileDescriptorProto, as paths of source info begin with them."""
_KINDS = {
    FieldDescriptorProto.Type.Value(name): name.removeprefix("TYPE_").lower()
    for name in FieldDescriptorProto.Type.keys()  # noqa: SIM118 - an EnumTypeWrapper is no mapping
}


class File:
    """A file of the contract with its comments."""

    def __init__(self, proto: FileDescriptorProto) -> None:
        self.proto = proto
        self._comments = {
            tuple(location.path): " ".join(location.leading_comments.split())
            for location in proto.source_code_info.location
        }

    def comment(self, *path: int) -> str:
        """Return the comment at a path, on one line."""
        return self._comments.get(path, "")


def service_config(files: list[File]) -> dict[str, Any]:
    """Return the gRPC service config: retries for what may be repeated, and the deadline of each method."""
    configs: dict[tuple[bool, float], list[dict[str, str]]] = {}
    for file in files:
        for service in file.proto.service:
            for method in service.method:
                rules = method.options.Extensions[method_rules_pb2.rules]
                name = {"service": f"{file.proto.package}.{service.name}", "method": method.name}
                key = (_is_repeated_by_grpc(method), rules.default_deadline.ToTimedelta().total_seconds())
                configs.setdefault(key, []).append(name)
    return {
        "methodConfig": [
            {
                "name": names,
                **({"timeout": f"{deadline:g}s"} if deadline else {}),
                **({"retryPolicy": _RETRY_POLICY} if repeatable else {}),
            }
            for (repeatable, deadline), names in sorted(configs.items())
            if repeatable or deadline
        ]
    }


def _is_repeated_by_grpc(method: MethodDescriptorProto) -> bool:
    """Return whether gRPC itself may repeat a call. Streams are resumed by the clients, from where they were."""
    rules = method.options.Extensions[method_rules_pb2.rules]
    return rules.idempotency != method_rules_pb2.IDEMPOTENCY_ONCE and not (
        method.client_streaming or method.server_streaming
    )


def api(files: list[File]) -> str:
    """Return the reference of all services, messages and enums, as Markdown."""
    return "\n".join((_HEAD, *_services(files), *_types(files)))


def _services(files: list[File]) -> Iterator[str]:
    for file in files:
        for place, service in enumerate(file.proto.service):
            yield f"## {service.name}\n\n{file.comment(_SERVICE, place)}\n"
            yield "| call | scope | repeatable | deadline | recorded | meaning |\n|---|---|---|---|---|---|"
            for index, method in enumerate(service.method):
                rules = method.options.Extensions[method_rules_pb2.rules]
                scope = method_rules_pb2.Scope.Name(rules.scope).removeprefix("SCOPE_").lower().replace("_", ".")
                how = method_rules_pb2.Idempotency.Name(rules.idempotency).removeprefix("IDEMPOTENCY_").lower()
                deadline = f"{rules.default_deadline.seconds} s" if rules.HasField("default_deadline") else "none"
                cells = (
                    _signature(method),
                    f"`{scope}`",
                    how.replace("_", " "),
                    deadline,
                    "yes" if rules.audited else "no",
                    file.comment(_SERVICE, place, 2, index),
                )
                yield f"| {' | '.join(cells)} |"
            yield ""


def _signature(method: MethodDescriptorProto) -> str:
    taken = ("stream " if method.client_streaming else "") + _short(method.input_type)
    given = ("stream " if method.server_streaming else "") + _short(method.output_type)
    return f"`{method.name}`: {taken} → {given}"


def _types(files: list[File]) -> Iterator[str]:
    for file in files:
        for place, message in enumerate(file.proto.message_type):
            yield from _message(file, message, message.name, (_MESSAGE, place))
        for place, enum in enumerate(file.proto.enum_type):
            yield from _enum(file, enum, (_ENUM, place))


def _message(file: File, message: DescriptorProto, name: str, path: tuple[int, ...]) -> Iterator[str]:
    yield f"### {name}\n\n{file.comment(*path)}\n"
    if message.field:
        yield "| field | type | meaning |\n|---|---|---|"
        maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
        for index, field in enumerate(message.field):
            yield f"| `{field.name}` | {_type(field, maps)} | {file.comment(*path, 2, index)} |"
        yield ""
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(file, nested, f"{name}.{nested.name}", (*path, 3, index))


def _enum(file: File, enum: EnumDescriptorProto, path: tuple[int, ...]) -> Iterator[str]:
    yield f"### {enum.name}\n\n{file.comment(*path)}\n\n| value | meaning |\n|---|---|"
    for index, value in enumerate(enum.value):
        yield f"| `{value.name}` | {file.comment(*path, 2, index)} |"
    yield ""


def _type(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    if entry := maps.get(_short(field.type_name)):
        return f"map of {_type(entry.field[0], maps)} to {_type(entry.field[1], maps)}"
    kind = _short(field.type_name) if field.type_name else _KINDS[field.type]
    return f"list of {kind}" if field.label == FieldDescriptorProto.LABEL_REPEATED else kind


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def main(descriptors: Path, folder: Path) -> None:
    """Write both files."""
    protos = FileDescriptorSet.FromString(descriptors.read_bytes()).file
    files = [File(proto) for proto in protos if proto.package == "qgateway.v1"]
    (folder / "service_config.json").write_text(json.dumps(service_config(files), indent=2) + "\n")
    (folder / "api.md").write_text(api(files), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
