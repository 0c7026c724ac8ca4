// The control server of the tests: Tailscale's own testcontrol, with DERP and STUN on loopback, and an admin port.
//
// It prints one JSON line with its URLs, and exits when its standard input ends.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"tailscale.com/tstest/integration"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/logger"
)

// known passes only the paths that testcontrol can answer: for any other it would end the process.
func known(next http.Handler) http.HandlerFunc {
	paths := []string{"/key", "/ts2021", "/generate_204", "/machine/set-dns", "/machine/update-health"}
	folders := []string{"/machine/tka/", "/machine/webclient/", "/c2n/"}
	return func(w http.ResponseWriter, r *http.Request) {
		for _, path := range paths {
			if r.URL.Path == path {
				next.ServeHTTP(w, r)
				return
			}
		}
		for _, folder := range folders {
			if strings.HasPrefix(r.URL.Path, folder) {
				next.ServeHTTP(w, r)
				return
			}
		}
		http.NotFound(w, r)
	}
}

// takeOver puts our handlers in front of testcontrol's. Requests within the noise connection can be reached only in its
// mux.
func takeOver(t *tailnet) {
	theirs := *t.private.mux
	ours := http.NewServeMux()
	ours.Handle("/", known(theirs))
	ours.Handle("/machine/register", t.register(theirs))
	ours.Handle("/machine/map", t.poll(theirs))
	*t.private.mux = ours
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where the control server listens; DERP is at the same address")
	key := flag.String("authkey", "", "a reusable key; other keys are refused")
	auth := flag.Bool("auth", false, "whether a login without a key takes a visit to a URL")
	machineAuth := flag.Bool("machine-auth", false, "whether devices have to be approved")
	flag.Parse()

	host, _, err := net.SplitHostPort(*listen)
	if err != nil {
		log.Fatal(err)
	}
	harness := &harness{}
	control := &testcontrol.Server{
		Logf:             logger.Discard,
		DERPMap:          integration.RunDERPAndSTUN(harness, logger.Discard, host),
		RequireAuth:      true, // we decide whom to admit
		AllNodesSameUser: true,
		MagicDNSDomain:   domain,
	}
	gate := &gate{address: *listen, conns: map[net.Conn]struct{}{}, handler: control}
	if err := gate.open(); err != nil {
		log.Fatal(err)
	}
	control.ExplicitBaseURL = "http://" + gate.address
	// This makes the server's keys and its mux: a client that already knows the keys would not.
	if answer, err := http.Get(control.ExplicitBaseURL + "/key"); err != nil {
		log.Fatal(err)
	} else {
		answer.Body.Close()
	}
	tailnet := newTailnet(control)
	tailnet.auth, tailnet.approval = *auth, *machineAuth
	if *key != "" {
		tailnet.keys.keys[*key] = &authKey{reusable: true}
	}
	takeOver(tailnet)
	adminListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(adminListener, &admin{tailnet: tailnet, gate: gate, harness: harness})
	json.NewEncoder(os.Stdout).Encode(map[string]string{
		"control": control.ExplicitBaseURL, "admin": "http://" + adminListener.Addr().String(),
	})
	io.Copy(io.Discard, os.Stdin)
}
