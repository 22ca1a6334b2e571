package esx_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

// G15: a password appears in no log and no error.
func TestSecretIsNowhereShown(t *testing.T) {
	a := esx.Account{URL: "https://vcenter", Username: "u", Password: "hunter2"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("account", "account", a, "password", a.Password)
	encoded, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %x %d %v", a, a, a, a.Password, a.Password, a.Password, a.Password, &a) + log.String() + string(encoded)
	if strings.Contains(all, "hunter2") || strings.Contains(all, "68756e74657232") {
		t.Errorf("got %s", all)
	}
}

func TestAccountThatCannotBeRightIsRefusedWithoutConnecting(t *testing.T) {
	good := esx.Account{URL: "vcenter.example", Username: "u", Password: "p"}
	if _, err := esx.NewSession(good, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*esx.Account){
		"no URL":            func(a *esx.Account) { a.URL = "" },
		"http":              func(a *esx.Account) { a.URL = "http://vcenter.example" },
		"password in URL":   func(a *esx.Account) { a.URL = "https://u:hunter2@vcenter.example/sdk" },
		"no user":           func(a *esx.Account) { a.Username = "" },
		"SHA-1 thumbprint":  func(a *esx.Account) { a.Thumbprint = strings.Repeat("AB:", 19) + "AB" },
		"no such authority": func(a *esx.Account) { a.CAFile = empty + "x" },
		"no certificate":    func(a *esx.Account) { a.CAFile = empty },
	} {
		a := good
		change(&a)
		_, err := esx.NewSession(a, slog.New(slog.DiscardHandler))
		if !errors.Is(err, mooring.ErrInvalid) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}

// G15: there is no way to log in to a vCenter that has not proved that it is the right one.
func TestVCenterIsKnownByThumbprintOrAuthorityAndByNothingLess(t *testing.T) {
	v := newVCSim(t)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.server.Certificate().Raw})
	if err := os.WriteFile(authority, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*esx.Account)
		says   string // "": accepted
	}{
		"thumbprint":               {func(*esx.Account) {}, ""},
		"thumbprint with colons":   {func(a *esx.Account) { a.Thumbprint = strings.ToUpper(colons(a.Thumbprint)) }, ""},
		"authority":                {func(a *esx.Account) { a.Thumbprint, a.CAFile = "", authority }, ""},
		"another thumbprint":       {func(a *esx.Account) { a.Thumbprint = strings.Repeat("00", 32) }, "thumbprint"},
		"thumbprint over the CA":   {func(a *esx.Account) { a.Thumbprint, a.CAFile = strings.Repeat("00", 32), authority }, "thumbprint"},
		"the system's authorities": {func(a *esx.Account) { a.Thumbprint = "" }, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			a := v.account()
			c.change(&a)
			_, err := newSession(t, a).Profiles(t.Context())
			if c.says == "" && err != nil {
				t.Fatal(err)
			}
			if c.says != "" && (!errors.Is(err, mooring.ErrUnavailable) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v, want ErrUnavailable about the %s", err, c.says)
			}
		})
	}
	if n := v.count("Login"); n != 3 {
		t.Errorf("got %d logins, want 3: a password goes to a vCenter that is known, and to no other", n)
	}
}

func colons(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(s[i : i+2])
	}
	return b.String()
}

func TestManyWaitersShareOneLogin(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	look := func() {
		var waiters sync.WaitGroup
		for range 20 {
			waiters.Go(func() {
				if _, err := h.Machine(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		waiters.Wait()
	}
	look()
	if n := v.count("Login"); n != 1 {
		t.Fatalf("got %d logins, want 1", n)
	}
	v.endSessions(t)
	before := v.count("Login")
	look()
	if n := v.count("Login") - before; n != 1 {
		t.Errorf("got %d logins after vCenter ended the session, want 1", n)
	}
}

// An account that is refused five times within three minutes is locked, for everybody who uses it.
func TestRefusedAccountRests(t *testing.T) {
	v := newVCSim(t)
	a := v.account()
	a.Password = "wrong"
	s := newSession(t, a)
	s.SetRefusalRest(300 * time.Millisecond)
	for range 5 {
		_, err := s.Profiles(t.Context())
		hint, ok := errors.AsType[*mooring.HintError](err)
		if !errors.Is(err, mooring.ErrUnavailable) || !strings.Contains(err.Error(), "InvalidLogin") || !ok || hint.Hint == "" {
			t.Fatalf("got %v, want ErrUnavailable with InvalidLogin and a hint", err)
		}
	}
	if n := v.count("Login"); n != 1 {
		t.Errorf("got %d attempts, want 1", n)
	}
	eventually(t, "another attempt after the rest", func() bool {
		_, err := s.Profiles(t.Context())
		return err != nil && v.count("Login") == 2
	})
}

func TestKeepAliveOutlivesTheLossOfTheSession(t *testing.T) {
	v := newVCSim(t)
	s := newSession(t, v.account())
	s.SetKeepAlive(10 * time.Millisecond)
	if _, err := s.Profiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.refuse(func(method string, _ any) types.BaseMethodFault {
		if method == "CurrentTime" && v.count("CurrentTime") <= 2 {
			return &types.SystemError{}
		}
		return nil
	})
	eventually(t, "more calls after two that failed", func() bool { return v.count("CurrentTime") > 4 })
	before := v.count("Login")
	v.endSessions(t) // logs in itself
	eventually(t, "a new login by the keep-alive alone", func() bool { return v.count("Login") == before+2 })
}

func TestCloseLogsOut(t *testing.T) {
	v := newVCSim(t)
	s := newSession(t, v.account())
	if _, err := s.Profiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil || v.count("Logout") != 1 {
		t.Errorf("got %v and %d logouts, want 1", err, v.count("Logout"))
	}
	if _, err := s.Profiles(t.Context()); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("got %v from a closed session, want ErrUnavailable", err)
	}
}

// The product promises to say within ten seconds that vCenter cannot be reached.
func TestVCenterThatIsAwayOrSilentIsToldInTime(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, c := range map[string]struct {
		addr  net.Addr
		limit time.Duration
	}{
		"nothing listens": {closed.Addr(), 2 * time.Second},
		"never answers":   {silent.Addr(), 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t, esx.Account{URL: "https://" + c.addr.String(), Username: "u", Password: "p"})
			h := esx.NewHost(s, esx.Where{VM: "423c5dc2-8a03-a7f4-3ed5-0102030405ff"}, slog.New(slog.DiscardHandler))
			begin := time.Now()
			if err := h.Attach(t.Context(), volume(1)); !errors.Is(err, mooring.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if took := time.Since(begin); took > c.limit {
				t.Errorf("took %s, want at most %s", took, c.limit)
			}
		})
	}
}

// eventually asks until yes is true, for as long as something that takes milliseconds may take on a loaded machine.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !yes() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
