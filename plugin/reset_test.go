package plugin_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/ledger"
	"github.com/mooring-sh/mooring/plugin"
)

// reset asks for a reset as the command does.
func (r *rig) reset(t *testing.T) error {
	t.Helper()
	rec := httptest.NewRecorder()
	r.AdminHandler(plugin.About{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodPost, admin.ResetPath, nil))
	if rec.Code == http.StatusOK {
		return nil
	}
	return problemOf(t, rec.Body.Bytes())
}

// A drill resets the machine that vCenter has shown to be this one, and no other.
func TestResetIsOfThisMachineAlone(t *testing.T) {
	r := newRig(t, newWorld(), t.TempDir())
	if err := r.reset(t); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("never seen in vCenter: got %v, want ErrUnavailable", err)
	}
	if err := r.ledger.SetVM(ledger.Identity{Instance: "instance-1"}); err != nil {
		t.Fatal(err)
	}
	r.world.set(func() { r.world.instance = "instance-2" })
	if err := r.reset(t); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("another machine: got %v, want ErrInvalid", err)
	}
	r.world.set(func() { r.world.instance = "instance-1" })
	if err := r.reset(t); err != nil || r.world.count("reset") != 2 {
		t.Errorf("got %v, %d requests, want it reset", err, r.world.count("reset"))
	}
	r.world.set(func() { r.world.down = true })
	if err := r.reset(t); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("without vCenter: got %v, want ErrUnavailable", err)
	}
	if n := r.log.count("op=reset"); n != 6 {
		t.Errorf("logged %d lines, want two announcements that came to nothing, one that did not, and three refusals", n)
	}
}

// G10, G17: a ledger that lacks its newest generation, or is another machine's, is not what a machine should come back with.
func TestResetNeedsALedgerInOrder(t *testing.T) {
	for name, change := range map[string]func(*plugin.Settings){
		"behind": func(s *plugin.Settings) { s.Behind = true }, "another machine's": func(s *plugin.Settings) { s.Moved = true },
	} {
		r := newRig(t, newWorld(), t.TempDir(), change)
		if err := r.ledger.SetVM(ledger.Identity{Instance: "instance-1"}); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := r.reset(t)
		hint, ok := errors.AsType[*mooring.HintError](err)
		if !errors.Is(err, mooring.ErrInvalid) || !ok || hint.Hint != "mooring status" || r.world.count("reset") != 0 {
			t.Errorf("%s: got %v, want ErrInvalid with a hint, and vCenter not asked", name, err)
		}
	}
}
