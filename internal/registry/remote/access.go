package remote

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"unicode"

	"github.com/mooring-sh/mooring"
)

// Credentials are an account's. All empty: nobody's, which is enough for what a registry shows to everybody.
type Credentials struct {
	User     string // as the registry knows it; Harbor's robot accounts are called robot$PROJECT+NAME, and robot$NAME if they are the system's
	Password Secret
	Token    Secret // an identity token instead of a password: what `docker login` keeps for some registries
}

// Access says which registry, and as whom.
type Access struct {
	// Registry is its name with a port where it has one: harbor.example.com, 127.0.0.1:5000. It is spoken to by https, and by http on this machine itself;
	// https:// or http:// in front says which.
	Registry string
	Credentials
	// CAFile is a PEM file with authorities for the registry's certificate, which are trusted beside those of the system.
	CAFile string
	// PlainHTTP allows http to another machine, with the password and all that is pulled in clear text on the network.
	PlainHTTP bool
	// Counted has each read of an image's manifest count as a pull in Harbor; see the package's comment.
	Counted bool
	// Agent is the User-Agent. Empty: mooring.
	Agent    string
	Patience Patience
}

// address is where a registry listens.
type address struct {
	plain bool
	host  string // with the port, if one was given
}

// parseAddress reads what people give as a registry; the error wraps [mooring.ErrInvalid].
func parseAddress(text string, plainAllowed bool) (address, error) {
	wrong := func(format string, args ...any) (address, error) {
		return address{}, fmt.Errorf("registry: "+format+": %w", append(args, mooring.ErrInvalid)...)
	}
	scheme, rest, given := strings.Cut(text, "://")
	if !given {
		scheme, rest = "", text
	}
	scheme = strings.ToLower(scheme)
	u, err := url.Parse("any://" + rest)
	if err != nil || u.Hostname() == "" || strings.ContainsFunc(text, unicode.IsSpace) || strings.Count(u.Host, ":") > 1 && u.Host[0] != '[' {
		// The text is not shown: it may hold a password.
		return wrong("want a name such as harbor.example.com, with a port where it has one")
	}
	if u.User != nil {
		return wrong("an account is given beside the name %s, not in it", u.Host)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return wrong("%s has more behind the name: want %s, and repositories apart from it", text, u.Host)
	}
	a := address{plain: scheme == "http" || scheme == "" && isLoopback(u.Hostname()), host: u.Host}
	switch {
	case scheme != "" && scheme != "http" && scheme != "https":
		return wrong("%s:// is not spoken: want https:// or http://", scheme)
	case a.plain && !plainAllowed && !isLoopback(u.Hostname()):
		return wrong("http to %s sends the password and the images in clear text: want https, or that plain http is allowed explicitly", u.Host)
	}
	return a, nil
}

// isLoopback tells whether the name is this machine's own for sure: nothing is looked up.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// tlsConfig trusts the system's authorities and those of the file.
func tlsConfig(caFile string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w: %w", err, mooring.ErrInvalid)
	}
	if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
		conf.RootCAs = x509.NewCertPool() // a machine without authorities of its own trusts the file's
	}
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read authorities: %s has no certificate in PEM: %w", caFile, mooring.ErrInvalid)
	}
	return conf, nil
}

// maxPassword is more than any password or token has, in bytes.
const maxPassword = 64 << 10

// ReadPassword reads what --password-stdin gets: all there is, without the line break at its end.
func ReadPassword(r io.Reader) (Secret, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("read password: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	switch {
	case password == "":
		return "", fmt.Errorf("read password: there is none on the standard input: %w", mooring.ErrInvalid)
	case len(text) > maxPassword || strings.ContainsFunc(password, unicode.IsControl):
		return "", fmt.Errorf("read password: want one line of at most %d bytes: %w", maxPassword, mooring.ErrInvalid)
	}
	return Secret(password), nil
}

// check says what is wrong with the account.
func (c Credentials) check() error {
	switch {
	case c.User == "" && c.Password != "":
		return fmt.Errorf("credentials: a password without a user: %w", mooring.ErrInvalid)
	case c.User != "" && c.Password == "" && c.Token == "":
		return fmt.Errorf("credentials: no password for %s: %w", c.User, mooring.ErrInvalid)
	case strings.Contains(c.User, ":"):
		return fmt.Errorf("credentials: a user's name has no colon: %w", mooring.ErrInvalid)
	}
	return nil
}
