#!/usr/bin/env bash
# restic 0.18.1: `restic backup A B` exits with 0 if B does not exist, as long as A does. It reports this only on
# standard error, takes the snapshot, and omits B from the snapshot's paths: a script that checks the exit code takes an
# incomplete backup for a good one. If no source exists at all, the exit code is not 0.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy:
#   …/not-there does not exist, skipping
#   snapshot … saved
#   exit code 0, and the snapshot's only path is A
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
echo content >"$folder/there/file"
"$restic" init --quiet

code=0
"$restic" backup "$folder/there" "$folder/not-there" >"$folder/out" 2>"$folder/err" || code=$?
cat "$folder/out" "$folder/err"
echo "exit code $code"
paths=$("$restic" snapshots --json --latest 1)
echo "$paths"

[ "$code" -eq 0 ] || { echo "changed: it ends with $code" >&2; exit 1; }
grep -q "not-there does not exist, skipping" "$folder/err" || { echo "changed: it says something else" >&2; exit 1; }
grep -q '/there"' <<<"$paths" || { echo "changed: the snapshot does not list what was there" >&2; exit 1; }
! grep -q '/not-there"' <<<"$paths" || { echo "changed: the snapshot lists the missing path" >&2; exit 1; }
none=0
"$restic" backup "$folder/not-there" >"$folder/out" 2>&1 || none=$?
[ "$none" -ne 0 ] || { echo "changed: it ends with 0 where no source exists" >&2; exit 1; }
echo "as it was"
