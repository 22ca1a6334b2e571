package notify_test

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor/notify"
)

const hidden = "hunter2" // a secret, wherever it is

// hook is a server with TLS, and the webhook that leads to it.
func hook(t *testing.T, serve http.HandlerFunc) (*httptest.Server, notify.Webhook) {
	t.Helper()
	server := httptest.NewUnstartedServer(serve)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return server, notify.Webhook{URL: server.URL + "/" + hidden + "?token=" + hidden, CAFile: ca, Pause: time.Millisecond}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// wantError wants an error with a text, and without the secret.
func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), hidden) {
		t.Errorf("got %v, want %q, and no secret", err, text)
	}
}

func TestWebhookPostsTheMessage(t *testing.T) {
	var got notify.Message
	var header http.Header
	_, w := hook(t, func(_ http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || json.Unmarshal(body, &got) != nil {
			t.Errorf("got %s %s, %v", r.Method, body, err)
		}
	})
	w.Header, w.SecretFile = "Authorization", write(t, "Bearer "+hidden+"\n")
	if err := w.Check(); err != nil {
		t.Error(err)
	}
	m := notify.Message{Machine: "docker1", Subject: "s", Text: "t", Report: recovered()}
	if err := w.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got.Subject != "s" || got.Text != "t" || got.Report.ID != m.Report.ID || !got.Report.Died.Equal(m.Report.Died) {
		t.Errorf("got %+v, want the message", got)
	}
	if header.Get("Authorization") != "Bearer "+hidden || header.Get("Content-Type") != "application/json" {
		t.Errorf("got headers %v", header)
	}
	if strings.Contains(w.Name(), hidden) || !strings.HasPrefix(w.Name(), "the webhook at 127.0.0.1:") {
		t.Errorf("name: got %s", w.Name())
	}
}

// A server that has a fault of its own is asked again, but not for ever; one that refuses is not.
func TestWebhookTriesAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		answers []int
		tries   int32
		says    string // empty: told
	}{
		"better the third time": {[]int{500, 503, 200}, 3, ""},
		"never":                 {[]int{500}, 3, "it answers 500 Internal Server Error: unavailable (tried 3 times)"},
		"too many":              {[]int{429, 204}, 2, ""},
		"forbidden":             {[]int{403}, 1, "it answers 403 Forbidden"},
		"moved":                 {[]int{302}, 1, "a redirect, which is not followed"},
	} {
		var tries atomic.Int32
		elsewhere, _ := hook(t, func(_ http.ResponseWriter, r *http.Request) {
			t.Errorf("%s: followed to %s %s", name, r.Method, r.Host)
		})
		_, w := hook(t, func(rw http.ResponseWriter, _ *http.Request) {
			n := int(tries.Add(1))
			rw.Header().Set("Location", elsewhere.URL+"/"+hidden)
			rw.WriteHeader(c.answers[min(n, len(c.answers))-1])
		})
		err := w.Send(t.Context(), notify.Message{})
		if c.says == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.says != "" {
			wantError(t, err, c.says)
		}
		if tries.Load() != c.tries {
			t.Errorf("%s: tried %d times, want %d", name, tries.Load(), c.tries)
		}
	}
}

// A server that never answers holds nobody up, and one that answers and then goes on talking was told.
func TestWebhookThatHangs(t *testing.T) {
	_, w := hook(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or nobody sees that the client goes
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // a return would answer 200, which can reach a client that is just leaving
	})
	w.Timeout = 50 * time.Millisecond
	err := w.Send(t.Context(), notify.Message{})
	if !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	wantError(t, err, "(tried 3 times)")

	_, w = hook(t, func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	})
	if err := w.Send(t.Context(), notify.Message{}); err != nil {
		t.Errorf("a body without an end: got %v, want told", err)
	}
}

// Whoever cannot prove to be the server gets nothing.
func TestWebhookVerifiesTheCertificate(t *testing.T) {
	_, w := hook(t, func(http.ResponseWriter, *http.Request) { t.Error("asked without a certificate that is trusted") })
	w.CAFile = ""
	wantError(t, w.Send(t.Context(), notify.Message{}), "certificate")
	w.CAFile = write(t, "nothing")
	wantError(t, w.Send(t.Context(), notify.Message{}), "no certificate")
}

func TestWebhookThatIsNotThere(t *testing.T) {
	server, w := hook(t, nil)
	server.Close()
	wantError(t, w.Send(t.Context(), notify.Message{}), "connection refused")
	w.Header, w.SecretFile = "X", "/nonexistent/file"
	wantError(t, w.Send(t.Context(), notify.Message{}), "read secret: open /nonexistent/file")
	for _, text := range []string{"", "\n", hidden + "\n" + hidden, hidden + "\x00"} {
		w.SecretFile = write(t, text)
		wantError(t, w.Send(t.Context(), notify.Message{}), "want a line of text")
	}
}

func TestWebhookChecksItsSettings(t *testing.T) {
	for name, c := range map[string]struct {
		hook notify.Webhook
		says string
	}{
		"plain http":      {notify.Webhook{URL: "http://example.com/" + hidden}, "want https"},
		"no url":          {notify.Webhook{URL: hidden}, "a webhook: its url is none"},
		"ftp":             {notify.Webhook{URL: "ftp://example.com/" + hidden}, `begins with "ftp"`},
		"header alone":    {notify.Webhook{URL: "https://example.com", Header: "X"}, "a header needs a secret file"},
		"no header":       {notify.Webhook{URL: "https://example.com", Header: "a b", SecretFile: "f"}, `"a b" is no header's name`},
		"takes for ever":  {notify.Webhook{URL: "https://example.com", Timeout: time.Hour}, "allowed are up to 10s"},
		"everything once": {notify.Webhook{URL: "http://example.com", Header: "X"}, "want https: invalid\nthe webhook at example.com: a header"},
	} {
		err := c.hook.Check()
		if !errors.Is(err, mooring.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
		wantError(t, err, c.says)
	}
	for _, url := range []string{"https://example.com/x", "http://localhost:1/x", "http://127.0.0.1/x", "http://[::1]/x"} {
		if err := (notify.Webhook{URL: url}).Check(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
