#!/usr/bin/env bash
# Generate the stubs of all languages from protos/, and what else is made from it, or check what is checked in. `make protos` and
# `make protos-check` install the generators first.
#
#   scripts/protos.sh generate    write the stubs
#   scripts/protos.sh check       fail if the stubs in the tree are not what the generators make of protos/
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."

readonly GO_MODULE=qgateway.internal/go
readonly PYTHON_STUBS=clients/python/src/qgateway/v1 GO_STUBS=clients/go/qgatewayv1
readonly PROTOC=(build/protoc/bin/python -W ignore -m grpc_tools.protoc -I protos -I build/googleapis)

fail() { printf '%s\n' "$*" >&2; exit 1; }
have_go() { [[ -x build/bin/protoc-gen-go && -x build/bin/protoc-gen-go-grpc ]]; }

# generate_python FOLDER: FOLDER stands for clients/python/src. Only a file with a service gets a *_grpc module.
generate_python() {
  local messages services
  mapfile -t messages < <(printf '%s\n' protos/qgateway/v1/*.proto)
  mapfile -t services < <(grep -l '^service ' protos/qgateway/v1/*.proto)
  local plugins=(--plugin=build/protoc/bin/protoc-gen-mypy --plugin=build/protoc/bin/protoc-gen-mypy_grpc)
  "${PROTOC[@]}" "${plugins[@]}" --python_out="$1" --mypy_out=quiet:"$1" "${messages[@]}"
  "${PROTOC[@]}" "${plugins[@]}" --grpc_python_out="$1" --mypy_grpc_out=quiet:"$1" "${services[@]}"
}

# generate_go FOLDER: FOLDER stands for clients/go. The package is named here, so that the contract names no language.
generate_go() {
  local plugins=(--plugin=build/bin/protoc-gen-go --plugin=build/bin/protoc-gen-go-grpc)
  local options=(--go_out="$1" --go_opt=module="$GO_MODULE" --go-grpc_out="$1" --go-grpc_opt=module="$GO_MODULE")
  local proto mapping
  for proto in protos/qgateway/v1/*.proto; do
    mapping="M${proto#protos/}=$GO_MODULE/qgatewayv1"
    options+=(--go_opt="$mapping" --go-grpc_opt="$mapping")
  done
  "${PROTOC[@]}" "${plugins[@]}" "${options[@]}" protos/qgateway/v1/*.proto
}

# generate_rest FOLDER: the service config of the clients, and the reference of the API.
generate_rest() {
  "${PROTOC[@]}" --include_source_info --descriptor_set_out="$generated/descriptors" protos/qgateway/v1/*.proto
  PYTHONPATH="$generated/python" build/protoc/bin/python scripts/contract.py "$generated/descriptors" "$1"
}

generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT
mkdir -p "$generated/python" "$generated/go" "$generated/rest"
generate_python "$generated/python"
generate_rest "$generated/rest"
if have_go; then generate_go "$generated/go"; else echo 'No Go: the stubs of clients/go are left as they are.'; fi

case ${1:-} in
  generate)
    rm -f "$PYTHON_STUBS"/*_pb2*
    cp "$generated/python/qgateway/v1"/* "$PYTHON_STUBS"
    if have_go; then
      rm -rf "$GO_STUBS"
      cp -r "$generated/go/qgatewayv1" "$GO_STUBS"
    fi
    cp "$generated/rest/api.md" docs/api.md
    tee "$PYTHON_STUBS/service_config.json" "$GO_STUBS/service_config.json" <"$generated/rest/service_config.json" >/dev/null
    ;;
  check)
    diff -ru -x __pycache__ -x __init__.py -x service_config.json "$generated/python/qgateway/v1" "$PYTHON_STUBS" &&
      diff -u "$generated/rest/service_config.json" "$PYTHON_STUBS/service_config.json" &&
      diff -u "$generated/rest/service_config.json" "$GO_STUBS/service_config.json" &&
      diff -u "$generated/rest/api.md" docs/api.md &&
      { ! have_go || diff -ru -x service_config.json "$generated/go/qgatewayv1" "$GO_STUBS"; } ||
      fail 'The checked-in stubs are not those of protos/. Run: make protos'
    ;;
  *) fail 'usage: scripts/protos.sh generate|check' ;;
esac
