package esx

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/mooring-sh/mooring"
)

// Secret is a string that no log, error or file may show.
type Secret string

const hidden = "(hidden)"

// String returns "(hidden)".
func (Secret) String() string { return hidden }

// GoString returns "(hidden)".
func (Secret) GoString() string { return hidden }

// LogValue returns "(hidden)".
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// Format writes "(hidden)" for every verb, those that make no sense included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText returns "(hidden)".
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Account says where vCenter is, who logs in there, and how vCenter proves that it is the right one.
type Account struct {
	URL      string // https://host[:port][/sdk]
	Username string
	Password Secret
	// CAFile is a PEM file with the authorities that may have signed vCenter's certificate. Empty: those of the system.
	CAFile string
	// Thumbprint is the SHA-256 of vCenter's certificate, 64 hexadecimal digits, colons allowed. It stands in for an authority.
	Thumbprint string
}

// endpoint returns the URL of vCenter's SDK, without user information. The error wraps [mooring.ErrInvalid].
func (a Account) endpoint() (*url.URL, error) {
	text := a.URL
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	switch {
	case err != nil:
		return nil, fmt.Errorf("vCenter URL: %w: %w", err, mooring.ErrInvalid)
	case u.Hostname() == "":
		return nil, fmt.Errorf("vCenter URL %q: names no host: %w", u.Redacted(), mooring.ErrInvalid)
	case u.Scheme != "https":
		return nil, fmt.Errorf("vCenter URL %q: want https: %w", u.Redacted(), mooring.ErrInvalid)
	case u.User != nil:
		return nil, fmt.Errorf("vCenter URL %q: user name and password do not belong here: %w", u.Redacted(), mooring.ErrInvalid)
	}
	if u.Path == "" {
		u.Path = "/sdk"
	}
	return u, nil
}

// tlsConfig returns what decides whether vCenter is the right one: the thumbprint, else the authorities of CAFile, else the system's.
func (a Account) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.Thumbprint != "" {
		want, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(a.Thumbprint))
		if err != nil || len(want) != sha256.Size {
			return nil, fmt.Errorf("vCenter thumbprint %q: want the certificate's SHA-256, 64 hexadecimal digits: %w", a.Thumbprint, mooring.ErrInvalid)
		}
		// The chain is not looked at, because the certificate itself is known. VerifyConnection runs on resumed connections too.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error { return matchThumbprint(state, [sha256.Size]byte(want)) }
		return config, nil
	}
	if a.CAFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(a.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read vCenter's authorities: %w: %w", err, mooring.ErrInvalid)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read vCenter's authorities: %s holds no certificate in PEM: %w", a.CAFile, mooring.ErrInvalid)
	}
	return config, nil
}

// thumbprintError says that the server showed another certificate than the configured one.
type thumbprintError struct {
	want, got [sha256.Size]byte
}

func (e *thumbprintError) Error() string {
	return fmt.Sprintf("vCenter shows a certificate with the SHA-256 thumbprint %x, configured is %x", e.got, e.want)
}

func matchThumbprint(state tls.ConnectionState, want [sha256.Size]byte) error {
	if len(state.PeerCertificates) == 0 {
		return &thumbprintError{want: want}
	}
	if got := sha256.Sum256(state.PeerCertificates[0].Raw); got != want {
		return &thumbprintError{want: want, got: got}
	}
	return nil
}
