#!/usr/bin/env bash
# restic 0.18.1: `restic snapshots` omits a snapshot that it cannot read, reports that on standard error in plain text
# (with --json too), and exits with 0; `latest` and filters do the same, and then select an older one. A program that
# restores the newest of the list restores an older one if a file is damaged, or an answer of the bucket cut off once.
#
# Seen 2026-11-30 on Linux amd64, installed with Go from the module proxy:
#   both can be read: the newest is of "newer", exit code 0
#   one cannot: the newest is of "older", exit code 0
#   Ignoring "<id>": failed to load snapshot <id>: LoadRaw(<snapshot/<id>>): invalid data returned
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
"$restic" backup --quiet --tag older --time "2026-11-29 12:00:00" "$folder/file"
"$restic" backup --quiet --tag newer --time "2026-11-30 12:00:00" "$folder/file"

listed() {
  code=0
  "$restic" --no-cache snapshots --json >"$folder/out" 2>"$folder/err" || code=$?
  newest=$(jq -r 'sort_by(.time)[-1].tags[0]' "$folder/out")
  echo "$1: the newest is of \"$newest\", exit code $code"
}
listed 'both can be read'
[ "$newest $code" = "newer 0" ] || { echo "there are not two to begin with" >&2; exit 1; }
id=$(jq -r 'sort_by(.time)[-1].id' "$folder/out")
file=$folder/repository/snapshots/$id
chmod u+w "$file"
head -c 40 "$file" >"$folder/part"
cat "$folder/part" >"$file"
listed 'one cannot'
cat "$folder/err"
[ "$newest $code" = "older 0" ] || { echo "changed: it is not passed over" >&2; exit 1; }
grep -q "^Ignoring \"$id\"" "$folder/err" || { echo "changed: it is told in other words" >&2; exit 1; }
echo "as it was"
