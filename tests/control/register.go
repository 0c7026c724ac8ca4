package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// attempt is one login and its answer, for tests that count logins.
type attempt struct {
	Node     string `json:"node"`
	Hostname string `json:"hostname"`
	AuthKey  string `json:"auth_key"`
	Followup bool   `json:"followup"`
	Logout   bool   `json:"logout"`
	Answer   string `json:"answer"` // "in", "url", "expired", "limited", "out", or the text of the refusal
}

// register answers a login: it refuses it, or decides what testcontrol is to do and passes the request on.
func (t *tailnet) register(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var request tailcfg.RegisterRequest
		if !take(w, r, &request) {
			return
		}
		tried := attempt{Node: request.NodeKey.String(), Followup: request.Followup != "", AuthKey: presented(request)}
		if request.Hostinfo == nil {
			request.Hostinfo = &tailcfg.Hostinfo{}
		}
		tried.Hostname = request.Hostinfo.Hostname
		// At the end, since a follow-up waits for a visit.
		defer func() {
			t.mu.Lock()
			t.attempts = append(t.attempts, tried)
			t.mu.Unlock()
		}()
		if wait, limited := t.limit(); limited {
			tried.Answer = "limited"
			w.Header().Set("Retry-After", wait)
			http.Error(w, "rate limited by the test", http.StatusTooManyRequests)
			return
		}
		if tried.Logout = !request.Expiry.IsZero() && request.Expiry.Before(time.Now()); tried.Logout {
			tried.Answer = "out"
			t.logOut(request.NodeKey)
			json.NewEncoder(w).Encode(tailcfg.RegisterResponse{})
			return
		}
		if request.Followup == "" && t.hasExpired(request.NodeKey) {
			tried.Answer = "expired"
			json.NewEncoder(w).Encode(tailcfg.RegisterResponse{NodeKeyExpired: true})
			return
		}
		by, refusal := t.judge(&request)
		if refusal != "" {
			tried.Answer = refusal
			json.NewEncoder(w).Encode(tailcfg.RegisterResponse{Error: refusal})
			return
		}
		tried.Answer = t.pass(next, w, r, request.NodeKey, by)
	}
}

// judge returns what a login presents, or why it is refused, and sets whether it needs a visit to a URL.
func (t *tailnet) judge(request *tailcfg.RegisterRequest) (login, string) {
	by := login{hostinfo: request.Hostinfo, fresh: true, ephemeral: request.Ephemeral}
	if request.Followup != "" {
		return by, ""
	}
	value, at := presented(*request), t.find(request.NodeKey)
	if value == "" && at != nil {
		// A device needs only its node key.
		by.fresh = false
		return by, ""
	}
	taken, refusal := t.keys.use(value, request.Hostinfo.RequestTags)
	if refusal != "" {
		return by, refusal
	}
	by.key = taken
	t.private.letIn(request.NodeKey, value != "" || !t.needsVisit(request))
	return by, ""
}

// needsVisit returns whether a login without a key needs a visit to a URL.
func (t *tailnet) needsVisit(request *tailcfg.RegisterRequest) bool {
	outOfDate := t.hasExpired(request.OldNodeKey)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.auth || outOfDate || t.strict[request.NodeKey] || t.strict[request.OldNodeKey]
}

func (t *tailnet) hasExpired(node key.NodePublic) bool {
	found := t.server.Node(node)
	return t.find(node) != nil && found != nil && !found.KeyExpiry.IsZero() && found.KeyExpiry.Before(time.Now())
}

// pass lets testcontrol answer a login, and makes the node a device before its client gets the response.
func (t *tailnet) pass(next http.Handler, w http.ResponseWriter, r *http.Request, node key.NodePublic, by login) string {
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	var said tailcfg.RegisterResponse
	if answer.Code != http.StatusOK || json.Unmarshal(answer.Body.Bytes(), &said) != nil {
		// The client has gone: it gets no response, and its next request admits it.
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
		return "gone"
	}
	result := "in"
	switch {
	case said.NodeKeyExpired:
		result = "expired"
	case said.AuthURL != "":
		result = "url"
	default:
		t.admit(node, by)
		said.MachineAuthorized = t.server.Node(node).MachineAuthorized
	}
	json.NewEncoder(w).Encode(said)
	if result == "in" {
		t.wake()
	}
	return result
}

// logOut ends a device's login; an ephemeral device is deleted.
func (t *tailnet) logOut(node key.NodePublic) {
	at := t.find(node)
	if at == nil {
		return
	}
	if at.ephemeral {
		t.forget(at)
		return
	}
	t.private.letIn(node, false)
	t.expire(at, time.Unix(123, 0))
	t.wake()
}

func (t *tailnet) limit() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limited == 0 {
		return "", false
	}
	t.limited--
	return t.wait, true
}

func presented(request tailcfg.RegisterRequest) string {
	if request.Auth == nil {
		return ""
	}
	return request.Auth.AuthKey
}

// take decodes a request's JSON and lets the body be read again.
func take(w http.ResponseWriter, r *http.Request, into any) bool {
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return true
}
