#!/usr/bin/env bash
# versitygw 1.8.0 with its posix backend: `c//d` and `c/d`, two keys in S3, are one object. Putting one overwrites the
# other with status 200, a get of either returns the last content, and a list has only `c/d`. Tests with it do not
# detect keys with an empty part, such as a prefix that ends with a slash and a name that begins with one.
#
# Seen 2026-11-29 on Linux amd64, installed with Go from the module proxy, queried with curl's --aws-sigv4:
#   PUT c/d first: 200; PUT c//d second: 200
#   GET c/d: second
#   keys: c/d
#
# Needs Go and curl. Listens on a port of 127.0.0.1. Fails if this changes.
set -euo pipefail
VERSION=1.8.0
PORT=${PORT:-17070}
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT

GOBIN=$folder GOFLAGS=-mod=mod go install "github.com/versity/versitygw/cmd/versitygw@v$VERSION"
mkdir "$folder/files"
export ROOT_ACCESS_KEY=access-key ROOT_SECRET_KEY=secret-key
"$folder/versitygw" --port "127.0.0.1:$PORT" posix "$folder/files" >"$folder/log" 2>&1 &
server=$!

# The first word is the body.
s3() {
  local sum; sum=$(printf %s "$1" | sha256sum | cut -d' ' -f1)
  curl --silent --path-as-is --user "$ROOT_ACCESS_KEY:$ROOT_SECRET_KEY" --aws-sigv4 aws:amz:us-east-1:s3 \
    --header "x-amz-content-sha256: $sum" "${@:2}"
}
url=http://127.0.0.1:$PORT
for _ in $(seq 100); do if s3 '' --fail "$url/" >/dev/null; then break; fi; sleep 0.1; done
put() { s3 "$2" --output /dev/null --write-out '%{http_code}' --request PUT --data-binary "$2" "$url/$1"; }

put bucket '' >/dev/null
one=$(put bucket/c/d first) two=$(put bucket/c//d second)
got=$(s3 '' "$url/bucket/c/d")
keys=$(s3 '' "$url/bucket?list-type=2" | grep -o '<Key>[^<]*' | cut -c6- | tr '\n' ' ')
echo "PUT c/d first: $one; PUT c//d second: $two"
echo "GET c/d: $got"
echo "keys: $keys"

[ "$one $two" = '200 200' ] || { echo "changed: a put is refused" >&2; exit 1; }
[ "$got" = second ] || { echo "changed: the two are not one object any more" >&2; exit 1; }
[ "$keys" = 'c/d ' ] || { echo "changed: the list is another one" >&2; exit 1; }
echo "as it was"
