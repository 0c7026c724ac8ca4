#!/usr/bin/env bash
# Litestream 0.5.18: `litestream replicate -exec COMMAND` exits with 1, whatever code COMMAND failed with; only 0 stays
# 0. Only the message contains the original code. A supervisor that decides by exit codes (127 not found, 78
# configuration) cannot distinguish them.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy:
#   COMMAND ends with 0: 0
#   COMMAND ends with 7: 1, "exit status 7"
#   COMMAND ends with 78: 1, "exit status 78"
#
# Needs Go. Fails if this changes.
set -euo pipefail
VERSION=0.5.18
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

GOBIN=$folder GOFLAGS=-mod=mod go install "github.com/benbjohnson/litestream/cmd/litestream@v$VERSION"
cat >"$folder/litestream.yml" <<END
dbs:
  - path: $folder/a.db
    replica:
      type: file
      path: $folder/copy
END

ends_with() {
  local code=0
  "$folder/litestream" replicate -config "$folder/litestream.yml" -exec "sh -c 'exit $1'" >"$folder/out" 2>&1 || code=$?
  echo "COMMAND ends with $1: $code, $(grep -o 'exit status.*' "$folder/out" || true)"
  [ "$code" -eq "$2" ] || { echo "changed: it ends with $code" >&2; exit 1; }
}
ends_with 0 0
ends_with 7 1
ends_with 78 1
echo "as it was"
