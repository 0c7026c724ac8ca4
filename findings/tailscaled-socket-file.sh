#!/usr/bin/env bash
# tailscaled 1.102.5: a regular file at the path of --socket is silently removed at the start, whatever it contains. A
# mistyped --socket, such as the path of the state or of a key, destroys that file.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy:
#   before: regular file; after: socket; lines of the log about it: 0
#
# Needs Go. The file is the script's own. Fails if this changes.
set -euo pipefail
VERSION=1.102.5
folder=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon"; rm -rf "$folder"' EXIT

GOBIN=$folder GOFLAGS=-mod=mod CGO_ENABLED=0 go install "tailscale.com/cmd/tailscaled@v$VERSION"
mkdir "$folder/state"
echo 'worth keeping' >"$folder/file"
before=$(stat --format=%F "$folder/file")
TS_LOGS_DIR=$folder/state "$folder/tailscaled" --tun=userspace-networking --no-logs-no-support --port=0 \
  --statedir="$folder/state" --socket="$folder/file" >"$folder/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do if [ -S "$folder/file" ]; then break; fi; sleep 0.1; done
after=$(stat --format=%F "$folder/file")
# The second line repeats the command.
told=$(grep -v 'Program starting' "$folder/log" | grep -c "$folder/file" || :)
echo "before: $before; after: $after; lines of the log about it: $told"

[ "$before" = 'regular file' ] || { echo "the script itself is wrong" >&2; exit 1; }
[ "$after" = socket ] || { echo "changed: the file is not replaced" >&2; exit 1; }
[ "$told" -eq 0 ] || { echo "changed: it says so" >&2; exit 1; }
echo "as it was"
