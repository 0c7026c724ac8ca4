#!/usr/bin/env bash
# restic 0.18.1: `restic backup` that gets SIGINT while it uploads ends with 1. The table of exit codes in its manual
# (doc/075_scripting.rst) has 130 for that, and 1 for a failure: a script that tells an interruption from a failure by
# them, so as not to report the former, reports each.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy:
#   signal interrupt received, cleaning up
#   Fatal: unable to save snapshot: context canceled
#   exit code 1
#
# Needs Go. Fails where this changes.
set -euo pipefail
VERSION=0.18.1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

GOBIN=$folder GOFLAGS=-mod=mod go install "github.com/restic/restic/cmd/restic@v$VERSION"
export RESTIC_REPOSITORY=$folder/repository RESTIC_PASSWORD=a-password RESTIC_CACHE_DIR=$folder/cache
restic=$folder/restic
"$restic" version
mkdir "$folder/there"
head -c 100000000 /dev/urandom >"$folder/there/file"
"$restic" init --quiet

# Slow enough that it is in the middle when the first data is there.
"$restic" backup --quiet --limit-upload 10240 "$folder/there" >"$folder/out" 2>&1 &
pid=$!
for _ in $(seq 600); do
  [ -z "$(find "$folder/repository/data" -type f -size +0)" ] || break
  sleep 0.1
done
kill -INT "$pid"
code=0
wait "$pid" || code=$?
cat "$folder/out"
echo "exit code $code"

grep -q "signal interrupt received" "$folder/out" || { echo "it had ended before it was interrupted" >&2; exit 1; }
[ "$code" -eq 1 ] || { echo "changed: it ends with $code" >&2; exit 1; }
echo "as it was"
