#!/usr/bin/env bash
# tailscaled 1.102.5: the environment variable PORT, which platforms such as Heroku, Cloud Run and App Platform set to
# the HTTP port, is the default of its --port, the UDP port for WireGuard. Starting tailscaled with the platform's
# environment silently moves its UDP port there; `--port=0` or an environment without PORT helps.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy:
#   without PORT:     -port value … (default 0)
#   with PORT=18080:  -port value … (default 18080)
#
# Needs Go. Only its help is printed. Fails if this changes.
set -euo pipefail
VERSION=1.102.5
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

GOBIN=$folder GOFLAGS=-mod=mod CGO_ENABLED=0 go install "tailscale.com/cmd/tailscaled@v$VERSION"
"$folder/tailscaled" --version | head -1

default() { sed -n '/^ *-port/,/default/p' | grep -oE 'default [0-9]+' | head -1; }
usual=$(env -u PORT "$folder/tailscaled" --help 2>&1 | default)
moved=$(PORT=18080 "$folder/tailscaled" --help 2>&1 | default)
echo "without PORT: $usual; with PORT=18080: $moved"

[ "$moved" = "default 18080" ] || { echo "changed: PORT does not set the default" >&2; exit 1; }
[ "$usual" != "$moved" ] || { echo "changed: the default is another one" >&2; exit 1; }
echo "as it was"
