package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// startSupervisor answers at the supervisor's socket, as the supervisor does, what the named file of the script says: the stack as it is at first, and, after
// somebody asked for something, as it is from one question to the next.
func startSupervisor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 || neg {
		ts.Fatalf("usage: supervisor file")
	}
	var answers struct {
		Stack      []json.RawMessage `json:"stack"`
		Recoveries []json.RawMessage `json:"recoveries"` // the newest first
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &answers))
	var mu sync.Mutex
	asked := false
	next := func() json.RawMessage {
		mu.Lock()
		defer mu.Unlock()
		if asked && len(answers.Stack) > 1 {
			answers.Stack = answers.Stack[1:]
		}
		return answers.Stack[0]
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.StackPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(next()) })
	mux.HandleFunc("POST "+admin.HealPath, func(w http.ResponseWriter, r *http.Request) {
		var h admin.Heal
		if err := json.NewDecoder(r.Body).Decode(&h); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		first := next()
		mu.Lock()
		asked = true
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(first)
	})
	mux.HandleFunc("GET "+admin.RecoveriesPath, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string][]json.RawMessage{"recoveries": answers.Recoveries})
	})
	mux.HandleFunc(admin.RecoveryPattern, func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		for i, text := range answers.Recoveries {
			var rep admin.Recovery
			if err := json.Unmarshal(text, &rep); err == nil && (rep.ID == id || id == admin.LastRecovery && i == 0) {
				_, _ = w.Write(text)
				return
			}
		}
		problem, status := admin.ProblemOf(fmt.Errorf("recovery %s: %w", id, mooring.ErrNotFound))
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(problem)
	})
	serve(ts, admin.SupervisorSocketEnv, mux)
}
