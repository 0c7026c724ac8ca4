#!/usr/bin/env bash
# restic 0.18.1: a local repository whose folder `snapshots` is missing, as while a volume is unmounted or the
# repository is being moved, counts as empty: `restic snapshots` exits with 0 and an empty list. A program that decides
# by that list whether to restore something starts from scratch. Without the whole repository it exits with 10.
#
# Seen 2026-11-30 on Linux amd64, installed with Go from the module proxy:
#   with its folder of snapshots: 1 of them, exit code 0
#   without it: 0 of them, exit code 0
#
# Needs Go and jq. Fails if this changes.
set -euo pipefail
VERSION=0.18.1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

GOBIN=$folder GOFLAGS=-mod=mod go install "github.com/restic/restic/cmd/restic@v$VERSION"
export RESTIC_REPOSITORY=$folder/repository RESTIC_PASSWORD=a-password RESTIC_CACHE_DIR=$folder/cache
restic=$folder/restic
"$restic" version
"$restic" init --quiet
echo text >"$folder/file"
"$restic" backup --quiet "$folder/file"

listed() {
  code=0
  "$restic" snapshots --json >"$folder/out" || code=$?
  count=$(jq length "$folder/out")
  echo "$1: $count of them, exit code $code"
}
listed 'with its folder of snapshots'
[ "$count $code" = "1 0" ] || { echo "it has no snapshot to begin with" >&2; exit 1; }
mv "$folder/repository/snapshots" "$folder/away"
listed 'without it'
[ "$count $code" = "0 0" ] || { echo "changed: it tells of it" >&2; exit 1; }
echo "as it was"
