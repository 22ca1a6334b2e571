package remote

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mooring-sh/mooring"
)

const (
	maxAnswer = 1 << 20 // of a token, or of what says why something is refused
	// harborAgent is the User-Agent for whose reads Harbor counts no pull: its own replication's and garbage collection's.
	harborAgent = "harbor-registry-client"
)

// transport is what regclient sends its requests through. It asks again what deserves it, which regclient does too, but with one delay for the whole registry
// that every damaged image lengthens; it keeps what was answered in the exchange; and it sees to it that credentials reach the registry and its token service only.
type transport struct {
	next     http.RoundTripper
	home     address
	plain    bool // http to others than this machine is allowed
	counted  bool
	agent    string
	patience Patience
	log      *slog.Logger
	harbor   atomic.Bool // the registry turned out to be one
	gate     gate
	callers  callers
}

// RoundTrip sends the request, as often as it takes. What fails for good is answered with 503, the one status after which regclient does not ask again
// by itself; the exchange has the truth.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchangeOf(req.Context())
	if x == nil {
		return t.token(req)
	}
	if x.seen[req.URL.String()] && req.Method == http.MethodGet {
		closeBody(req.Body)
		x.keep(req.URL, answer{path: req.URL.Path, err: fmt.Errorf("the list's pages lead in a circle: %w", mooring.ErrInvalid)})
		return stop(req), nil
	}
	res, a := t.ask(req, x)
	x.keep(req.URL, a)
	if err := req.Context().Err(); err != nil {
		closeResponse(res)
		return nil, err
	}
	if !a.helps() {
		closeResponse(res)
		return stop(req), nil
	}
	return res, nil
}

// helps tells whether regclient can go on with an answer, if only to give up properly.
func (a answer) helps() bool {
	return a.err == nil && a.status != http.StatusTooManyRequests && a.status != http.StatusRequestTimeout && a.status < 500
}

// token sends a request of regclient's for a token, which comes with no context: it ends with those that wait for it.
func (t *transport) token(req *http.Request) (*http.Response, error) {
	ctx, release := t.callers.join(req.Context())
	defer release()
	x := &exchange{limit: maxAnswer}
	res, a := t.ask(req.WithContext(ctx), x)
	switch {
	case a.err != nil:
		closeResponse(res)
		return nil, fmt.Errorf("token service %s: %w", req.URL.Host, a.err)
	case a.status == http.StatusTooManyRequests || a.status >= 500:
		closeResponse(res)
		return nil, fmt.Errorf("token service %s: status %d %s: %w", req.URL.Host, a.status, a.said(), mooring.ErrUnavailable)
	}
	return res, nil
}

// ask sends the request until the answer is one, or patience ends.
func (t *transport) ask(req *http.Request, x *exchange) (*http.Response, answer) {
	ctx := req.Context()
	last := attempt{after: -1}
	for {
		if req.URL.Host == t.home.host {
			if err := t.gate.pass(ctx); err != nil {
				return nil, answer{path: req.URL.Path, err: err}
			}
		}
		begun := time.Now()
		res, a := t.once(req, x)
		t.log.Debug("asked registry", "op", req.Method, "url", shown(req.URL), "status", a.status, "took", time.Since(begun), "err", a.err)
		last.tries++
		last.status, last.after, last.final = a.status, retryAfter(a.header.Get("Retry-After"), time.Now()), ctx.Err() != nil || errors.Is(a.err, mooring.ErrInvalid)
		v := t.patience.judge(last)
		if !v.again {
			return res, a
		}
		closeResponse(res)
		if v.told {
			last.tries--
			last.told += v.pause
			t.gate.hold(time.Now().Add(v.pause))
		}
		if err := wait(ctx, v.pause); err != nil {
			return nil, answer{path: req.URL.Path, err: err}
		}
	}
}

// shown is a URL for logs: where storage is addressed by signed URLs, the query is a credential.
func shown(u *url.URL) string { return u.Scheme + "://" + u.Host + u.Path }

// once sends the request once. The response is nil if, and only if, the answer has an error.
func (t *transport) once(req *http.Request, x *exchange) (*http.Response, answer) {
	a := answer{path: req.URL.Path}
	out, err := t.prepare(req, x)
	if err != nil {
		a.err = err
		return nil, a
	}
	res, err := t.next.RoundTrip(out)
	if err != nil {
		a.err = t.unanswered(req.URL.Host, err)
		return nil, a
	}
	res.Request = req
	a.status, a.header = res.StatusCode, res.Header
	if req.URL.Host == t.home.host && saysHarbor(res.Header.Values("WWW-Authenticate")) {
		t.harbor.Store(true)
	}
	limit := x.limit
	switch {
	case x.limit == 0 && (a.status == http.StatusOK || a.status == http.StatusPartialContent):
		if a.err = x.begin(res); a.err != nil {
			closeResponse(res)
			a.status, res = 0, nil
		}
		return res, a
	case a.status != http.StatusOK:
		limit = maxAnswer
	}
	a.body, err = io.ReadAll(io.LimitReader(res.Body, limit+1))
	closeResponse(res)
	switch {
	case err != nil:
		return nil, answer{path: a.path, err: fmt.Errorf("answer cut after %d bytes: %w: %w", len(a.body), err, mooring.ErrUnavailable)}
	case int64(len(a.body)) > limit && a.status == http.StatusOK:
		return nil, answer{path: a.path, err: fmt.Errorf("answer of more than %d bytes: %w", limit, errTooLong)}
	}
	res.Body = io.NopCloser(bytes.NewReader(a.body))
	return res, a
}

// errTooLong is of an answer that is longer than anything that may be answered.
var errTooLong = fmt.Errorf("too long: %w", mooring.ErrInvalid)

// prepare returns the request as it is sent.
func (t *transport) prepare(req *http.Request, x *exchange) (*http.Request, error) {
	if req.URL.Scheme != "https" && !t.plain && !isLoopback(req.URL.Hostname()) {
		return nil, fmt.Errorf("%s is to be reached by plain http, which is not allowed: %w", req.URL.Host, mooring.ErrInvalid)
	}
	out := req.Clone(req.Context())
	if req.GetBody != nil { // a body that was sent before
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		out.Body = body
	}
	out.Header.Set("User-Agent", t.agent)
	if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/") && t.harbor.Load() && !t.counted {
		out.Header.Set("User-Agent", harborAgent)
	}
	if x.offset > 0 {
		out.Header.Set("Range", "bytes="+strconv.FormatInt(x.offset, 10)+"-")
	}
	// Another port of the same machine is another server, which net/http does not see.
	if first := firstRequest(req); first.URL.Host != req.URL.Host || first.URL.Scheme != req.URL.Scheme {
		out.Header.Del("Authorization")
	}
	return out, nil
}

// firstRequest returns the request that was redirected to this one, perhaps in several steps.
func firstRequest(req *http.Request) *http.Request {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req
}

// unanswered says what it means that a request got no answer. A certificate that is not trusted gets no better by asking again.
func (t *transport) unanswered(host string, err error) error {
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &certificate):
		return fmt.Errorf("%s: %w: name the file with its authority (CA) if it is one of your own: %w", host, err, mooring.ErrInvalid)
	case errors.As(err, &noTLS) && string(noTLS.RecordHeader[:]) == "HTTP/":
		return fmt.Errorf("%s speaks http, not https: write http://%s if that is meant: %w", host, host, mooring.ErrInvalid)
	default:
		return fmt.Errorf("%s does not answer: %w: %w", host, err, mooring.ErrUnavailable)
	}
}

// saysHarbor recognizes Harbor by the challenges that all its versions send.
func saysHarbor(challenges []string) bool {
	for _, c := range challenges {
		if strings.Contains(c, `service="harbor-registry"`) || strings.Contains(c, `realm="harbor"`) {
			return true
		}
	}
	return false
}

// stop is an answer after which regclient gives up.
func stop(req *http.Request) *http.Response {
	return &http.Response{
		Status: "503 Service Unavailable", StatusCode: http.StatusServiceUnavailable, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: http.NoBody, Request: req,
	}
}

func closeResponse(res *http.Response) {
	if res != nil {
		closeBody(res.Body)
	}
}

// closeBody closes what was only read.
func closeBody(body io.Closer) {
	if body != nil {
		_ = body.Close()
	}
}
