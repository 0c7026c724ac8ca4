#!/usr/bin/env bash
# tailscaled 1.102.5: a `tailscale logout` that is broken off while the control server is out of reach, as by Ctrl-C,
# costs the running daemon its node key, though the key stays in its state and is valid. The device is then Stopped, not
# NeedsLogin. Once the control server is back, `tailscale up` ends with exit code 0 and the state is Running, but the
# device does not come online: its log repeats "privateNodeKey is zero", and it asks for a login with a new node key,
# by a URL that only the status has. `tailscale down` and `up` do not help. A POST of `start` whose preferences say that
# the device is not logged out does, without any login: `tailscale up` with a flag sends it, if `down` came before.
#
# Seen 2026-11-30 on Linux amd64, installed with Go from the module proxy, with the control server of its own tests:
#   logged in:                    Running, online
#   down in an outage, then up:   Running, online
#   logout broken off:            Stopped
#   then up, exit code 0:         Running, a login is wanted; "privateNodeKey is zero" in the log: 14 times
#   then down and up:             Running, a login is wanted
#   then down and up with a flag: Running, online, with the same node key
#
# Needs Go and curl, and a network interface besides lo: without one, tailscaled pauses. Its control server listens on
# ports of 127.0.0.1. Fails if this changes.
set -euo pipefail
VERSION=1.102.5
PORT=${PORT:-17072}
folder=$(mktemp -d)
control=
relay=
daemon=
trap 'for each in $daemon $relay $control; do kill "$each"; wait "$each" || :; done; rm -rf "$folder"' EXIT

export CGO_ENABLED=0
for name in tailscale tailscaled; do
  GOBIN=$folder GOFLAGS=-mod=mod go install "tailscale.com/cmd/$name@v$VERSION"
done
mkdir "$folder/control" "$folder/state"
printf 'module control\n\ngo 1.26.6\n\nrequire tailscale.com v%s\n' "$VERSION" >"$folder/control/go.mod"
cat >"$folder/control/control_test.go" <<'END'
package control

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"tailscale.com/tstest/integration"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/logger"
)

// A login takes a visit to its URL.
func TestControl(t *testing.T) {
	server := &testcontrol.Server{
		ExplicitBaseURL: "http://" + os.Getenv("OUTSIDE"),
		DERPMap:         integration.RunDERPAndSTUN(t, logger.Discard, "127.0.0.1"),
		RequireAuth:     true,
	}
	t.Fatal(http.ListenAndServe(os.Getenv("INSIDE"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/auth/") {
			server.ServeHTTP(w, r)
		} else if !server.CompleteAuth(r.URL.Path) {
			http.NotFound(w, r)
		}
	})))
}

// As long as this does not run, the control server is out of reach.
func TestRelay(t *testing.T) {
	listener, err := net.Listen("tcp", os.Getenv("OUTSIDE"))
	for err == nil {
		var from, to net.Conn
		if from, err = listener.Accept(); err == nil {
			if to, err = net.Dial("tcp", os.Getenv("INSIDE")); err == nil {
				go io.Copy(to, from)
				go io.Copy(from, to)
			}
		}
	}
	t.Fatal(err)
}
END
GOFLAGS=-mod=mod go test -C "$folder/control" -c -o "$folder/server"

export OUTSIDE=127.0.0.1:$PORT INSIDE=127.0.0.1:$((PORT + 1))
"$folder/server" -test.run=Control -test.timeout=10m >"$folder/control/log" 2>&1 &
control=$!
for _ in $(seq 100); do if curl --silent --output /dev/null "http://$INSIDE/key"; then break; fi; sleep 0.1; done
come() {
  "$folder/server" -test.run=Relay -test.timeout=10m >>"$folder/control/log" 2>&1 &
  relay=$!
  for _ in $(seq 100); do if curl --silent --output /dev/null "http://$OUTSIDE/key"; then break; fi; sleep 0.1; done
}
TS_LOGS_DIR=$folder/state TS_DISABLE_PORTMAPPER=1 "$folder/tailscaled" --tun=userspace-networking --no-logs-no-support \
  --port=0 --statedir="$folder/state" --socket="$folder/socket" >"$folder/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do if [ -S "$folder/socket" ]; then break; fi; sleep 0.1; done

# A daemon without its node key can take seconds for an answer.
client() { timeout --signal=INT "${limit:-60}" "$folder/tailscale" --socket="$folder/socket" "$@"; }
tailscale() { client "$@" >>"$folder/told" 2>&1; }
# Sets `said` to the status, which it asks for each second until it has the text, at most the given number of times.
look() {
  for _ in $(seq "$2"); do
    said=$(client status --json --peers=false)
    if grep -q "$1" <<<"$said"; then break; fi
    sleep 1
  done
}
value() { sed -nE "s/.*\"$1\": *\"?([^\",]*).*/\\1/p" <<<"$said" | head -1; }
state() {
  value BackendState | tr -d '\n'
  if [ "$(value Online)" = true ]; then printf ', online'; fi
  if [ -n "$(value AuthURL)" ]; then printf ', a login is wanted'; fi
}
# Breaks a command off in an outage, if it does not end by itself; sets `said` to the status before the outage's end.
in_an_outage() {
  kill "$relay"
  wait "$relay" || :
  relay=
  look '"Online": false' 20
  limit=3 tailscale "$@" || :
  look '"BackendState": "Stopped"' 20
  come
}
is() { [ "$(state)" = "$2" ] || { echo "changed: $1, it is $(state)" >&2; exit 1; }; }

come
tailscale up --login-server="http://$OUTSIDE" &
for _ in $(seq 100); do if grep -q /auth/ "$folder/told"; then break; fi; sleep 0.1; done
curl --silent --fail "$(grep -o 'http://.*/auth/.*' "$folder/told")"
wait $!
look '"Online": true' 30
key=$(value PublicKey)
echo "logged in: $(state)"
is "logged in" 'Running, online'

in_an_outage down
tailscale up
look '"Online": true' 30
echo "down in an outage, then up: $(state)"
is "after a down" 'Running, online'

in_an_outage logout
echo "logout broken off: $(state)"
is "after a logout that is broken off" Stopped
code=0
tailscale up || code=$?
look '"AuthURL": "http' 60
look '"Online": true' 10
told=$(grep -c 'privateNodeKey is zero' "$folder/log" || :)
echo "then up, exit code $code: $(state); \"privateNodeKey is zero\" in the log: $told times"
is "after an up" 'Running, a login is wanted'
[ "$code" -eq 0 ] || { echo "changed: up fails" >&2; exit 1; }
[ "$told" -gt 1 ] || { echo "changed: it has its node key" >&2; exit 1; }

tailscale down
tailscale up
look '"Online": true' 10
echo "then down and up: $(state)"
is "after a down and up" 'Running, a login is wanted'

tailscale down
tailscale up --login-server="http://$OUTSIDE"
look '"Online": true' 30
which=another
if [ "$(value PublicKey)" = "$key" ]; then which="the same"; fi
echo "then down and up with a flag: $(state), with $which node key"
is "after a start" 'Running, online'
[ "$which" = "the same" ] || { echo "changed: it has another node key" >&2; exit 1; }
echo "as it was"
