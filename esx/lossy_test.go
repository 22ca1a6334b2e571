package esx_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/esx"
)

// lossy is a network in front of the simulator that loses answers: vCenter has done the work, and nobody hears of it.
type lossy struct {
	server *httptest.Server

	mu   sync.Mutex
	lose map[string]bool // the next answer to the method
}

func newLossy(t *testing.T, v *vcsim) *lossy {
	t.Helper()
	l := &lossy{lose: map[string]bool{}}
	target := &url.URL{Scheme: "https", Host: v.server.URL.Host}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	l.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !l.loses(body) {
			proxy.ServeHTTP(w, r)
			return
		}
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}))
	l.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	l.server.StartTLS()
	t.Cleanup(l.server.Close)
	return l
}

func (l *lossy) loses(body []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for method := range l.lose {
		if bytes.Contains(body, []byte("<"+method+" ")) {
			delete(l.lose, method)
			return true
		}
	}
	return false
}

// loseNext loses the next answer to the method.
func (l *lossy) loseNext(method string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose[method] = true
}

func newLossyHost(t *testing.T, v *vcsim) (*esx.Host, *lossy) {
	t.Helper()
	l := newLossy(t, v)
	sum := sha256.Sum256(l.server.Certificate().Raw)
	a := v.account()
	a.URL, a.Thumbprint = l.server.URL+"/sdk", hex.EncodeToString(sum[:])
	h := esx.NewHost(newSession(t, a), esx.Where{VM: v.vm.Config.Uuid}, slog.New(slog.DiscardHandler))
	h.SetIntent(200*time.Millisecond, 20*time.Millisecond)
	return h, l
}
