// Package remote asks a registry over HTTP, by the OCI distribution API: what there is, and the bytes of it. It is for verification and repair: only what was
// hashed counts. A HEAD proves nothing (registries answer 200 from a cache for a blob that is gone), so it is used to resolve a tag, and to ask whether
// a second repository has what was hashed out of a first one. Nothing is ever written.
//
// regclient speaks the protocol: paths, pages, challenges, tokens, redirects. Harbor needs that per answer: its /v2/ asks for a token and its catalogue for
// a password. Below it, a transport of this package's own waits, asks again and resumes, and keeps what was really answered; regclient's own delays are for
// the whole registry and lengthened by every damaged image. Above it, every image's manifest is hashed, whatever regclient made of it. A blob comes raw.
//
// Credentials go to the registry and to the token service that it names, and nowhere else: not to storage elsewhere that a blob is redirected to, and in
// clear text only to this machine itself, unless that is asked for.
//
// Harbor counts a GET of an image's manifest as a pull: the image's number of pulls, the time of the last one, which retention rules go by, and its audit log.
// A verification that counted would keep every image for ever. It does not count HEAD, nor a User-Agent of exactly harbor-registry-client, which is its own
// replication's. So that name is sent with GETs of manifests, and with these only, and only to a registry whose challenges say that it is Harbor; everything else,
// and every other registry, gets Mooring's own name. [Access.Counted] turns that off for whoever wants to see verification in Harbor's log. Blobs are not counted by Harbor.
//
// Errors: [mooring.ErrUnavailable] cannot be reached, after it was asked several times; [mooring.ErrNotFound]; [mooring.ErrInvalid] is refused, and the text names the
// right that is missing, or is not spoken to as it wants; [mooring.ErrCorrupt] has answered with other bytes than the digest says.
//
// Sources: the OCI distribution specification 1.1, distribution's token authentication, and Harbor's sources (server/registry, server/middleware/v2auth).
package remote

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/regclient/regclient/config"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/ref"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Registry is a registry elsewhere. Its methods may be called at the same time.
type Registry struct {
	name      string // as regclient knows it
	account   Credentials
	home      address
	transport *transport
	wire      *http.Transport
	client    atomic.Pointer[reg.Reg]
	met       chan struct{} // held while the registry is asked for the first time what it is
	known     bool          // guarded by met
	buffers   sync.Pool     // of *[]byte
}

// Open returns the registry. Nothing is contacted yet; what is wrong with the access wraps [mooring.ErrInvalid].
func Open(a Access, log *slog.Logger) (*Registry, error) {
	home, err := parseAddress(a.Registry, a.PlainHTTP)
	if err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	conf, err := tlsConfig(a.CAFile)
	if err != nil {
		return nil, err
	}
	host := config.HostNewName(home.host)
	home.host = host.Hostname // Docker Hub answers under another name than it is called
	patience := a.Patience.withDefaults()
	wire := newConnections(conf, patience.Idle)
	r := &Registry{
		name: host.Name, account: a.Credentials, home: home, wire: wire, met: make(chan struct{}, 1),
		transport: &transport{
			next: wire, home: home, plain: a.PlainHTTP, counted: a.Counted, agent: cmp.Or(a.Agent, "mooring"), patience: patience, log: log,
		},
	}
	r.buffers.New = func() any {
		buffer := make([]byte, bufferSize)
		return &buffer
	}
	r.renew()
	return r, nil
}

// Name returns the registry's name, with its port if it has one.
func (r *Registry) Name() string { return r.name }

// Close lets go of the connections that nobody uses.
func (r *Registry) Close() { r.wire.CloseIdleConnections() }

// renew makes a client that remembers nothing. Tokens are kept per repository: one for all would grow with each, and be fetched anew for each. The retry limit
// leaves room for the challenges of one request (Harbor asks for a token, and then, if that is refused, for a password), and for nothing else.
func (r *Registry) renew() {
	const (
		challenges = 3
		noDelay    = 1 // nanosecond
	)
	host := config.HostNewName(r.name)
	host.Hostname, host.RepoAuth, host.ReqConcurrent = r.home.host, true, 0
	host.TLS = config.TLSEnabled
	if r.home.plain {
		host.TLS = config.TLSDisabled
	}
	host.User, host.Pass, host.Token = r.account.User, string(r.account.Password), string(r.account.Token)
	r.client.Store(reg.New(
		reg.WithConfigHosts([]*config.Host{host}),
		reg.WithHTTPClient(&http.Client{Transport: r.transport}),
		reg.WithRetryLimit(challenges), reg.WithDelay(noDelay, noDelay),
		reg.WithManifestMax(registry.MaxManifest, registry.MaxManifest),
		reg.WithUserAgent(r.transport.agent),
		reg.WithSlog(slog.New(slog.DiscardHandler)), // it logs what it returns as well
	))
}

// ask has regclient do one thing.
func (r *Registry) ask(ctx context.Context, x *exchange, do func(context.Context, *reg.Reg) error) error {
	leave := r.transport.callers.enter(ctx)
	defer leave()
	return do(withExchange(ctx, x), r.client.Load())
}

func (r *Registry) at(repository string) ref.Ref {
	return ref.Ref{Scheme: "reg", Registry: r.name, Repository: repository}
}

// checkRepository refuses what is no repository's name, so that a path that is made of it leads nowhere else.
func checkRepository(name string) error {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.Trim(part, ".") == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return errors.New("no repository's name")
		}
	}
	return nil
}
