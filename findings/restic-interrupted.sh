#!/usr/bin/env bash
# restic 0.18.1: `restic backup` exits with 1 on SIGINT during an upload. The table of exit codes in its manual
# (doc/075_scripting.rst) has 130 for that, and 1 for a failure: a script that uses them to distinguish interruptions
# from failures reports both as failures.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy:
#   signal interrupt received, cleaning up
#   Fatal: unable to save snapshot: context canceled
#   exit code 1
#
# Needs Go. Fails if this changes.
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

# Slow enough to be interrupted in the middle, once the first data is stored.
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
