package stack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor"
)

// Verify is a pull-only account, and an image that it can pull, by which the doors are tried once more: what a page answers, a registry without its
// storage may answer, too.
type Verify struct {
	Account  string   // Harbor's robot accounts are called robot$NAME
	Password Password // asked for each time, so that it can be changed
	Image    string   // REPOSITORY[:TAG|@DIGEST]; empty: no image is asked for
	// CAFile is a PEM file with the authority of the certificate at the doors. Without one a certificate is not judged, and nothing but this
	// machine's own published port is talked to.
	CAFile string
	Host   string // the name that the certificate is for
}

// Password returns a password, and never shows it.
type Password func() (string, error)

// String hides that there may be one.
func (Password) String() string { return "(password)" }

// door is the published port that is asked.
type door struct {
	base    string // scheme://host:port
	address string
	client  *http.Client
}

// Ask fetches the profile's page through the published port, and with an account also one manifest and one blob, which are hashed.
func (s *Stack) Ask(ctx context.Context) supervisor.Answer {
	if s.cfg.Profile.Answer == nil && s.cfg.Verify.Image == "" {
		return supervisor.Answer{At: time.Now(), Right: true, Text: "the profile has no question for the doors"}
	}
	said, err := s.ask(ctx)
	if err != nil {
		return supervisor.Answer{At: time.Now(), Text: err.Error()}
	}
	return supervisor.Answer{At: time.Now(), Right: true, Text: strings.Join(said, "; ")}
}

func (s *Stack) ask(ctx context.Context) ([]string, error) {
	limit := questionLimit
	if a := s.cfg.Profile.Answer; a != nil && a.Limit > 0 {
		limit = a.Limit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer in %s", limit))
	defer cancel()
	d, err := s.door()
	if err != nil {
		return nil, err
	}
	defer d.client.CloseIdleConnections()
	var said []string
	if a := s.cfg.Profile.Answer; a != nil {
		body, err := d.get(ctx, a.Path, nil, bodyLimit)
		if err != nil {
			return nil, err
		}
		if got := strings.TrimSpace(string(body)); a.Body != "" && got != a.Body {
			return nil, fmt.Errorf("GET %s%s: got %q, want %q", d.base, a.Path, oneLine(got), a.Body)
		}
		said = append(said, fmt.Sprintf("GET %s%s: right", d.base, a.Path))
	}
	if s.cfg.Verify.Image != "" {
		proof, err := d.pull(ctx, s.cfg.Verify)
		if err != nil {
			return nil, fmt.Errorf("pull %s: %w", s.cfg.Verify.Image, err)
		}
		said = append(said, proof)
	}
	return said, nil
}

// door finds the published port of the entry service.
func (s *Stack) door() (door, error) {
	name, c, err := s.entryContainer()
	if err != nil {
		return door{}, err
	}
	ports := []DoorPort{}
	if a := s.cfg.Profile.Answer; a != nil {
		ports = a.Ports
	}
	for _, want := range ports {
		if c.OnHost {
			return s.newDoor("127.0.0.1", want.Port, want.TLS)
		}
		for _, p := range c.Ports {
			if p.Container == want.Port && p.Protocol == "tcp" {
				return s.newDoor(reachable(p.HostIP), p.Host, want.TLS)
			}
		}
	}
	if c.State != "running" {
		return door{}, fmt.Errorf("%s is %s", name, c.State)
	}
	return door{}, fmt.Errorf("%s publishes none of the ports that the profile's answer names: %w", name, mooring.ErrInvalid)
}

// reachable returns the address at which a port is reached that is published at ip.
func reachable(ip string) string {
	if parsed := net.ParseIP(ip); parsed == nil || parsed.IsUnspecified() {
		return "127.0.0.1"
	}
	return ip
}

func (s *Stack) newDoor(host string, port int, secure bool) (door, error) {
	d := door{address: net.JoinHostPort(host, strconv.Itoa(port))}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		// Whatever name an answer leads to, it is this door: Harbor's own name may be unknown here, or be that of another machine.
		return (&net.Dialer{}).DialContext(ctx, "tcp", d.address)
	}}
	d.base = "http://" + d.address
	if secure {
		d.base = "https://" + d.address
		var err error
		if transport.TLSClientConfig, err = s.cfg.Verify.tls(); err != nil {
			return door{}, err
		}
	}
	d.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return d, nil
}

// tls returns how the certificate at the doors is judged.
func (v Verify) tls() (*tls.Config, error) {
	if v.CAFile == "" {
		return &tls.Config{InsecureSkipVerify: true}, nil // this machine's own port: the answer is judged, not the name
	}
	pem, err := os.ReadFile(v.CAFile)
	if err != nil {
		return nil, fmt.Errorf("verify.ca_file: %w: %w", err, mooring.ErrInvalid)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("verify.ca_file %s has no certificate in it: %w", v.CAFile, mooring.ErrInvalid)
	}
	return &tls.Config{RootCAs: pool, ServerName: v.Host}, nil
}

// get fetches a path, of at most limit bytes.
func (d door) get(ctx context.Context, path string, head http.Header, limit int64) ([]byte, error) {
	res, err := d.do(ctx, path, head)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return nil, fmt.Errorf("GET %s: status %d: %s", cutQuery(path), res.StatusCode, oneLine(string(said)))
	}
	var body bytes.Buffer
	n, err := io.Copy(&body, io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("GET %s: %w", cutQuery(path), err)
	case n > limit:
		return nil, fmt.Errorf("GET %s: more than %d bytes", cutQuery(path), limit)
	}
	return body.Bytes(), nil
}

func (d door) do(ctx context.Context, path string, head http.Header) (*http.Response, error) {
	target, err := url.Parse(d.base + path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, head)
	req.Host = cmp.Or(head.Get("Host"), req.Host)
	res, err := d.client.Do(req)
	if err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	return res, nil
}

func cutQuery(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}
