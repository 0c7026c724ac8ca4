#!/usr/bin/env bash
# restic 0.18.1 on S3 (versitygw 1.8.0): two simultaneous `restic init` of one repository both exit with 0 and both
# report a repository. It then has two keys and one config, which only one of the keys opens: restic tries the keys in
# turn, and if the other one comes first, every later command reports damage and exits with 1, with the right password.
# Which key comes first is random, so this tries up to ten times.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy:
#   both ended with 0; keys: 2
#   Fatal: config or key … is damaged: ciphertext verification failed
#   exit code 1
#
# Needs Go and curl. Listens on a port of 127.0.0.1. Fails if this changes.
set -euo pipefail
RESTIC=0.18.1 VERSITYGW=1.8.0
PORT=${PORT:-17071}
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT

GOBIN=$folder GOFLAGS=-mod=mod go install "github.com/restic/restic/cmd/restic@v$RESTIC"
GOBIN=$folder GOFLAGS=-mod=mod go install "github.com/versity/versitygw/cmd/versitygw@v$VERSITYGW"
mkdir -p "$folder/files/bucket"
export ROOT_ACCESS_KEY=access-key ROOT_SECRET_KEY=secret-key
export AWS_ACCESS_KEY_ID=$ROOT_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$ROOT_SECRET_KEY
export RESTIC_PASSWORD=a-password RESTIC_CACHE_DIR=$folder/cache
"$folder/versitygw" --port "127.0.0.1:$PORT" posix "$folder/files" >"$folder/log" 2>&1 &
server=$!
for _ in $(seq 100); do if curl --silent --output /dev/null "http://127.0.0.1:$PORT/"; then break; fi; sleep 0.1; done

for number in $(seq 10); do
  export RESTIC_REPOSITORY=s3:http://127.0.0.1:$PORT/bucket/$number
  "$folder/restic" init --quiet & one=$!
  "$folder/restic" init --quiet & two=$!
  both=yes
  wait "$one" || both=no
  wait "$two" || both=no
  [ "$both" = yes ] || continue
  keys=$(find "$folder/files/bucket/$number/keys" -type f | wc -l)
  code=0
  said=$("$folder/restic" snapshots 2>&1) || code=$?
  [ "$code" -ne 0 ] || continue
  echo "both ended with 0; keys: $keys"
  echo "$said"
  echo "exit code $code"
  [ "$keys" -eq 2 ] && grep -q "ciphertext verification failed" <<<"$said" || { echo "changed: other words" >&2; exit 1; }
  echo "as it was"
  exit 0
done
echo "changed: none of ten repositories was damaged" >&2
exit 1
