package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/mooring-sh/mooring"
)

// Problem is how an error crosses the socket: the body of every answer whose status is not 200.
type Problem struct {
	Text string `json:"error"`
	Hint string `json:"hint,omitempty"`
	Code Code   `json:"code,omitempty"` // empty: unforeseen
}

// Code names a sentinel of the root package on the wire.
type Code string

// kind ties a sentinel to its name on the wire and to the HTTP status that comes with it.
type kind struct {
	sentinel error
	code     Code
	status   int
}

// kinds lists the sentinels in the order in which [mooring.ExitCode] looks for them, so that the code here and the exit
// code of the command speak of the same one.
func kinds() []kind {
	return []kind{
		{mooring.ErrInvalid, "invalid", http.StatusBadRequest},
		{mooring.ErrNotFound, "not-found", http.StatusNotFound},
		{mooring.ErrExists, "exists", http.StatusConflict},
		{mooring.ErrInUse, "in-use", http.StatusConflict},
		{mooring.ErrFenced, "fenced", http.StatusLocked},
		{mooring.ErrPolicy, "policy", http.StatusUnprocessableEntity},
		{mooring.ErrCapacity, "capacity", http.StatusInsufficientStorage},
		{mooring.ErrCorrupt, "corrupt", http.StatusInternalServerError},
		{mooring.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	}
}

// ProblemOf returns err as it crosses the socket, and the HTTP status to answer with it: 500 for anything unforeseen.
func ProblemOf(err error) (Problem, int) {
	p := Problem{Text: err.Error()}
	if hint, ok := errors.AsType[*mooring.HintError](err); ok {
		p.Hint = hint.Hint
	}
	for _, k := range kinds() {
		if errors.Is(err, k.sentinel) {
			p.Code = k.code
			return p, k.status
		}
	}
	return p, http.StatusInternalServerError
}

// Reply answers a request on an admin socket with body as JSON.
func Reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // who asked is gone
}

// Refuse answers a request on an admin socket with err as [ProblemOf] has it.
func Refuse(w http.ResponseWriter, err error) {
	p, status := ProblemOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // who asked is gone
}

// Err returns the error that p was made of, as far as a caller can tell: its text, its sentinel for errors.Is, and its
// hint in a [mooring.HintError]. A code that is not known, say of a newer plugin, is no sentinel.
func (p Problem) Err() error {
	err := error(&problemError{problem: p})
	if p.Hint != "" {
		err = &mooring.HintError{Err: err, Hint: p.Hint}
	}
	return err
}

// problemError keeps the text of the far side, which names the sentinel already where it was wrapped.
type problemError struct{ problem Problem }

func (e *problemError) Error() string { return e.problem.Text }

func (e *problemError) Unwrap() error {
	for _, k := range kinds() {
		if k.code == e.problem.Code {
			return k.sentinel
		}
	}
	return nil
}
