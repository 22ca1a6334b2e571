package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/remote"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
)

// Clear text shows the password and the images to the network: http is for this machine itself, or for whoever asks for it.
func TestPlainHTTPGoesToThisMachineOnly(t *testing.T) {
	for _, c := range []struct {
		text    string
		allowed bool
		host    string // empty: refused
		plain   bool
	}{
		{"harbor.example.com", false, "harbor.example.com", false},
		{"harbor.example.com:8443", false, "harbor.example.com:8443", false},
		{"https://harbor.example.com/", false, "harbor.example.com", false},
		{"HTTPS://harbor.example.com", false, "harbor.example.com", false},
		{"http://harbor.example.com", false, "", false},
		{"HTTP://harbor.example.com", false, "", false},
		{"http://harbor.example.com", true, "harbor.example.com", true},
		{"http://10.0.0.1:5000", false, "", false},
		{"127.0.0.1:5000", false, "127.0.0.1:5000", true},
		{"localhost:5000", false, "localhost:5000", true},
		{"[::1]:5000", false, "[::1]:5000", true},
		{"https://127.0.0.1:5000", false, "127.0.0.1:5000", false},
		{"http://127.0.0.1", false, "127.0.0.1", true},
		{"localhost.example.com", false, "localhost.example.com", false},
		{"http://localhost.example.com", false, "", false},
		{"ftp://harbor.example.com", true, "", false},
		{"harbor.example.com/library", false, "", false},
		{"https://harbor.example.com/?x=y", false, "", false},
		{"https://ann:s3cr3t@harbor.example.com", false, "", false},
		{"", false, "", false},
		{"https://", false, "", false},
		{"a b", false, "", false},
		{"host:port", false, "", false},
		{"::1:5000", false, "", false}, // an address or a port?
	} {
		host, plain, err := remote.ParseAddress(c.text, c.allowed)
		if host != c.host || plain != c.plain || (err == nil) != (c.host != "") {
			t.Errorf("%q, allowed %v: got %q, plain %v, %v; want %q, plain %v", c.text, c.allowed, host, plain, err, c.host, c.plain)
		}
		if err != nil {
			wantError(t, err, mooring.ErrInvalid)
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%q: the error shows the password: %v", c.text, err)
			}
		}
	}
}

func TestAnAccessThatCannotWorkIsRefused(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]remote.Access{
		"a password without a user": {Registry: "a", Credentials: remote.Credentials{Password: "p"}},
		"no password":               {Registry: "a", Credentials: remote.Credentials{User: "ann"}},
		"a user's name":             {Registry: "a", Credentials: remote.Credentials{User: "a:b", Password: "p"}},
		"read authorities":          {Registry: "a", CAFile: filepath.Join(t.TempDir(), "absent")},
		"no certificate":            {Registry: "a", CAFile: empty},
		"clear text":                {Registry: "http://a.example.com"},
	} {
		_, err := remote.Open(a, slog.New(slog.DiscardHandler))
		wantError(t, err, mooring.ErrInvalid, name)
	}
}

func TestAnOwnAuthorityIsTrustedAndNoOther(t *testing.T) {
	reg := remotetest.NewTLS(t, harbor())
	reg.Image("library/db", "1", []byte("layer"))
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: reg.Server.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	trusting := func(a *remote.Access) { a.CAFile = ca }
	p, err := open(t, reg, trusting).Walk(t.Context(), remote.Order{})
	if err != nil || p.Blobs != 2 || p.Misses != 0 {
		t.Errorf("with the authority: got %+v, %v", p, err)
	}
	// Asking again makes no certificate better: it would take hours.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = open(t, reg, func(a *remote.Access) { a.Patience = remote.Patience{Pause: time.Hour, Longest: time.Hour} }).Tags(ctx, "library/db")
	wantError(t, err, mooring.ErrInvalid, "certificate", "name the file with its authority")
}

func TestASchemeThatIsNotSpokenIsNamed(t *testing.T) {
	plain := remotetest.New(t, remotetest.Rules{})
	_, err := open(t, plain, func(a *remote.Access) { a.Registry = "https://" + plain.Host() }).Tags(t.Context(), "a")
	wantError(t, err, mooring.ErrInvalid, "write http://"+plain.Host())
	secure := remotetest.NewTLS(t, remotetest.Rules{})
	_, err = open(t, secure, func(a *remote.Access) { a.Registry = "http://" + secure.Host() }).Tags(t.Context(), "a")
	wantError(t, err, mooring.ErrInvalid, "HTTP request to an HTTPS server")
}

// Whatever prints a structure that has a secret in it prints a placeholder.
func TestASecretShowsItselfToNobody(t *testing.T) {
	c := remote.Credentials{User: "ann", Password: "s3cr3t", Token: "t0k3n"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("opened", "password", c.Password, "credentials", c, "pointer", &c)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		fmt.Sprint(c), fmt.Sprintf("%v %+v %#v", c, c, c), fmt.Sprintf("%s %q %x %X %v", c.Password, c.Password, c.Password, c.Password, &c), string(text), log.String(),
	} {
		for _, secret := range []string{"s3cr3t", "t0k3n", fmt.Sprintf("%x", "s3cr3t"), fmt.Sprintf("%X", "s3cr3t")} {
			if strings.Contains(shown, secret) {
				t.Errorf("%q shows %q", shown, secret)
			}
		}
	}
	want(t, "an empty one", fmt.Sprint(remote.Secret("")), "")
}

func TestReadPassword(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{"s3cr3t\n", "s3cr3t", true},
		{"s3cr3t", "s3cr3t", true},
		{"with space \r\n", "with space ", true},
		{"", "", false},
		{"\n", "", false},
		{"two\nlines\n", "", false},
		{strings.Repeat("x", 70_000), "", false},
	} {
		got, err := remote.ReadPassword(strings.NewReader(c.in))
		if string(got) != c.want || (err == nil) != c.ok {
			t.Errorf("got %q, %v, want %q", string(got), err, c.want)
		}
		if err != nil {
			wantError(t, err, mooring.ErrInvalid)
		}
	}
}

// A redirect within this machine, to another port, is to another server.
func TestCredentialsStayWithTheirServer(t *testing.T) {
	other := remotetest.New(t, remotetest.Rules{})
	other.Image("library/db", "1")
	rules := harbor()
	rules.Meddle = func(q *http.Request, _ int) http.Handler {
		if q.Method == http.MethodHead && q.Header.Get("Authorization") != "" {
			return http.RedirectHandler(other.Server.URL+q.URL.Path, http.StatusTemporaryRedirect)
		}
		return nil
	}
	reg := remotetest.New(t, rules)
	reg.Image("library/db", "1")
	if _, err := open(t, reg).Resolve(t.Context(), "library/db", "1"); err != nil {
		t.Fatal(err)
	}
	seen := other.Requests()
	if len(seen) != 1 || seen[0].Authorization != "" {
		t.Errorf("the other server got %+v, want one request without credentials", seen)
	}
}

// A name, and both families of addresses.
func TestThisMachineIsReachedByEachOfItsNames(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	reg.Image("a", "1")
	_, port, err := net.SplitHostPort(reg.Host())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"localhost:" + port, "127.0.0.1:" + port}
	if six, err := net.Listen("tcp", "[::1]:0"); err == nil { // else this machine has no IPv6
		server := &http.Server{Handler: reg.Server.Config.Handler, ReadHeaderTimeout: time.Minute}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(six) // it is closed
		}()
		defer func() {
			_ = server.Close()
			<-served
		}()
		names = append(names, six.Addr().String())
	}
	for _, name := range names {
		r := open(t, reg, func(a *remote.Access) { a.Registry = name })
		if p, err := r.Walk(t.Context(), remote.Order{}); err != nil || p.Blobs != 1 || r.Name() != name {
			t.Errorf("%s: got %+v, %v", name, p, err)
		}
	}
}
