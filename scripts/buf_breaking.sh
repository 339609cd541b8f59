#!/usr/bin/env bash
# Check that protos/ breaks no client of the contract before it: scripts/buf_breaking.sh PATH_OF_BUF
#
# Before it is: on a branch, or with changes that are not committed, the last commit on main. On main itself, the state before
# the last commit that touched protos/.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() { echo "buf breaking: left out, $1."; exit 0; }
commit() { git rev-parse --verify --quiet "$1^{commit}"; }

git rev-parse --git-dir >/dev/null 2>&1 || skip 'this is no git checkout'
base=$(commit origin/main || commit main || commit HEAD) || skip 'there is no commit yet'
if git diff --quiet "$base" -- protos; then
  base=$(commit "$(git log -1 --format=%H "$base" -- protos)^") || skip 'the history holds no earlier contract'
fi
git cat-file -e "$base:protos" 2>/dev/null || skip 'the history holds no earlier contract'

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$base" protos | tar -x -C "$before"
mkdir "$before/build"
cp buf.yaml "$before"
cp -r build/googleapis "$before/build"
"$1" breaking --against "$before"
echo "buf breaking: nothing that ${base:0:12} promised is broken."
