package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/mooring-sh/mooring"
)

const (
	webhookTries   = 3
	webhookTimeout = 10 * time.Second
	webhookPause   = time.Second
	maxSecret      = 64 << 10
)

// Webhook POSTs the message as JSON.
type Webhook struct {
	// URL is https, or http to this machine itself. It may hold a secret, and is shown nowhere but for its host.
	URL string
	// Header is sent with what SecretFile holds as its value, without the last line break. The file is read anew for each message.
	Header, SecretFile string
	// CAFile is a PEM file with authorities for the server's certificate; empty: those of the system.
	CAFile string
	// Timeout is for each try. Zero: 10 s.
	Timeout time.Duration
	// Pause is between the first two tries, and twice as long between the next. Zero: 1 s.
	Pause time.Duration
}

// Name is the webhook's host.
func (w Webhook) Name() string {
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" {
		return "a webhook" // its URL may be a secret all through
	}
	return "the webhook at " + u.Host
}

// Check says what is wrong with the settings.
func (w Webhook) Check() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(w.Name()+": "+format+": %w", append(args, mooring.ErrInvalid)...))
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "":
		wrong("its url is none: want https://HOST/...")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		wrong("http goes to this machine itself only: want https")
	case u.Scheme != "http" && u.Scheme != "https":
		wrong("its url begins with %q: want https", u.Scheme)
	}
	if (w.Header == "") != (w.SecretFile == "") {
		wrong("a header needs a secret file, and a secret file a header")
	}
	if strings.Trim(strings.ToLower(w.Header), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		wrong("%q is no header's name", w.Header)
	}
	if w.Timeout < 0 || w.Timeout > webhookTimeout {
		wrong("timeout %s: allowed are up to %s", w.Timeout, webhookTimeout)
	}
	return errors.Join(errs...)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// refusal is an answer after which another try is of no use.
type refusal struct{ text string }

func (r refusal) Error() string { return r.text }

// Send posts the message, up to three times if the server cannot be reached, does not answer in time, or has a fault of its own.
func (w Webhook) Send(ctx context.Context, m Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	client, err := w.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	pause := cmp.Or(w.Pause, webhookPause)
	for try := 1; ; try++ {
		err := w.post(ctx, client, body)
		if err == nil {
			return nil
		}
		if _, final := errors.AsType[refusal](err); final || ctx.Err() != nil {
			return err
		}
		if try == webhookTries {
			return fmt.Errorf("%w (tried %d times)", err, try)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause *= 2
	}
}

// client returns a client that follows no redirect: it would send the secret to somebody else, and nothing but the secret, since a redirected POST becomes a GET.
func (w Webhook) client() (*http.Client, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}
	if w.CAFile != "" {
		pem, err := os.ReadFile(w.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read authorities: %s has no certificate in PEM: %w", w.CAFile, mooring.ErrInvalid)
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// post tries once.
func (w Webhook) post(ctx context.Context, client *http.Client, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(w.Timeout, webhookTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return refusal{"its url is none"} // the error's text has the URL
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "mooring")
	if w.Header != "" {
		value, err := secret(w.SecretFile)
		if err != nil {
			return err
		}
		req.Header.Set(w.Header, value)
	}
	res, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the rest of the text is the URL
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("no answer: %w: %w", mooring.ErrUnavailable, err)
		}
		return fmt.Errorf("%w: %w", mooring.ErrUnavailable, err)
	}
	defer func() { _ = res.Body.Close() }()
	switch {
	case res.StatusCode < 300:
		return nil
	case res.StatusCode < 400:
		return refusal{fmt.Sprintf("it answers %d, a redirect, which is not followed: give the address that it leads to", res.StatusCode)}
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("it answers %d %s: %w", res.StatusCode, http.StatusText(res.StatusCode), mooring.ErrUnavailable)
	default:
		return refusal{fmt.Sprintf("it answers %d %s", res.StatusCode, http.StatusText(res.StatusCode))}
	}
}

// secret returns what the file holds. No error shows it.
func secret(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	value := strings.TrimRight(string(data), "\r\n")
	if value == "" || strings.ContainsFunc(value, unicode.IsControl) {
		return "", refusal{fmt.Sprintf("what %s holds cannot be sent as a header: want a line of text", file)}
	}
	return value, nil
}
