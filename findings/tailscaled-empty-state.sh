#!/usr/bin/env bash
# tailscaled 1.102.5: an empty tailscaled.state, as created by `touch` or a mount of a single file, does not count as a
# first start. tailscaled does not exit either: it reports in one line of its log, and in its health, that the store
# failed, and continues with its state in memory. Its socket answers and a stop gives exit code 0, so a check of these
# finds nothing wrong. It never leaves NoState, and a restart does not help; removing the file does.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy, with no control server at hand:
#   with no file:       NeedsLogin
#   with an empty file: NoState, "State store failed to initialize, Tailscale will not work until this is resolved. …"
#   exit code 0, and the file is as empty as before
#
# Needs Go and curl. Fails if this changes.
set -euo pipefail
VERSION=1.102.5
folder=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon"; rm -rf "$folder"' EXIT

GOBIN=$folder GOFLAGS=-mod=mod CGO_ENABLED=0 go install "tailscale.com/cmd/tailscaled@v$VERSION"

# Sets `said` to its status, and `code` to its exit code after a TERM.
look() {
  TS_LOGS_DIR=$1 "$folder/tailscaled" --tun=userspace-networking --no-logs-no-support --port=0 --statedir="$1" \
    --socket="$folder/socket" >"$folder/log" 2>&1 &
  daemon=$!
  for _ in $(seq 100); do
    said=$(curl --silent --unix-socket "$folder/socket" 'http://local-tailscaled.sock/localapi/v0/status?peers=false' || :)
    if grep -qE 'NeedsLogin|State store failed' <<<"$said"; then break; fi
    sleep 0.1
  done
  kill "$daemon"
  code=0
  wait "$daemon" || code=$?
  daemon=
}
state() { sed -nE 's/.*"BackendState": *"([^"]*)".*/\1/p' <<<"$said" | head -1; }

mkdir "$folder/new" "$folder/touched"
look "$folder/new"
first=$(state)
touch "$folder/touched/tailscaled.state"
look "$folder/touched"
echo "with no file: $first; with an empty file: $(state), exit code $code"
grep -o '"State store failed[^"]*' <<<"$said"

[ "$first" = NeedsLogin ] || { echo "changed: a first start is $first" >&2; exit 1; }
[ "$(state) $code" = 'NoState 0' ] || { echo "changed: it ends, or has another state" >&2; exit 1; }
[ ! -s "$folder/touched/tailscaled.state" ] || { echo "changed: it makes the file anew" >&2; exit 1; }
echo "as it was"
