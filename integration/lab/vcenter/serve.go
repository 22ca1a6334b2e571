package vcenter

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// server serves the SDK over TLS and can be stopped, started again on the same port, and made to hang.
type server struct {
	v          *VCenter
	addr       string
	caFile     string
	thumbprint string
	cert       tls.Certificate
	handler    http.Handler

	mu   sync.Mutex
	http *http.Server  // nil while stopped
	hung chan struct{} // closed when requests may go on; nil while they may
}

func newServer(v *VCenter) (*server, error) {
	s := &server{v: v, caFile: filepath.Join(v.opts.Dir, "ca.pem"), addr: v.opts.Listen}
	if s.addr == "" {
		s.addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(s.addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.addr, err)
	}
	s.cert, s.thumbprint, err = certify(s.caFile, append(slices.Clone(v.opts.Names), host)...)
	if err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	svc := v.service
	svc.Listen = &url.URL{User: url.User("lab")} // not the default: SessionManager asks ValidLogin then
	svc.RegisterSDK(v.reg, vim25.Path+"/vimService")
	svc.ServeMux.HandleFunc(vim25.Path+"/vimServiceVersions.xml", svc.ServiceVersions)
	svc.ServeMux.HandleFunc(folderPath, s.serveFolder)
	svc.ServeMux.HandleFunc("/about", svc.About)
	v.reg.SessionManager().ValidLogin = v.login
	s.handler = http.HandlerFunc(s.serve)
	return s, nil
}

// start listens, on the port that it had before if there was one.
func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(s.v.ctx, "tcp", s.addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.addr = l.Addr().String()
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: time.Minute,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12},
		ErrorLog:          slog.NewLogLogger(s.v.log.Handler(), slog.LevelDebug),
	}
	s.http = srv
	s.v.wg.Go(func() {
		if err := srv.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.v.log.Error("vCenter stopped serving", "err", err)
		}
	})
	return nil
}

// stop closes the listener and every connection: clients are refused.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hung != nil {
		close(s.hung)
		s.hung = nil
	}
	if s.http == nil {
		return nil
	}
	err := s.http.Close()
	s.http = nil
	return err
}

// serve holds requests back while the vCenter hangs.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	hung := s.hung
	s.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-r.Context().Done():
			return
		}
	}
	s.v.service.ServeMux.ServeHTTP(w, r)
}

// StopServing makes the vCenter refuse connections, and cuts those there are. Its tasks go on, as they do in a real one
// whose network is gone.
func (v *VCenter) StopServing() error { return v.server.stop() }

// StartServing ends [VCenter.StopServing] and [VCenter.Hang].
func (v *VCenter) StartServing() error {
	v.server.mu.Lock()
	if v.server.hung != nil {
		close(v.server.hung)
		v.server.hung = nil
	}
	v.server.mu.Unlock()
	return v.server.start()
}

// Hang makes the vCenter accept requests and not answer them.
func (v *VCenter) Hang() {
	v.server.mu.Lock()
	defer v.server.mu.Unlock()
	if v.server.hung == nil {
		v.server.hung = make(chan struct{})
	}
}

// State returns "serving", "hanging" or "stopped".
func (v *VCenter) State() string {
	v.server.mu.Lock()
	defer v.server.mu.Unlock()
	switch {
	case v.server.http == nil:
		return "stopped"
	case v.server.hung != nil:
		return "hanging"
	}
	return "serving"
}

// login knows the two accounts.
func (v *VCenter) login(req *types.Login) bool {
	for _, a := range [...]Account{v.admin, v.plugin} {
		if strings.EqualFold(req.UserName, a.User) && req.Password == a.Password {
			req.UserName = a.User // rights are looked up by it
			v.counts.logins.Add(1)
			return true
		}
	}
	v.counts.refused.Add(1)
	return false
}

// tickets are what AcquireGenericServiceTicket gave out: each allows one transfer of a datastore file.
type tickets struct {
	mu sync.Mutex
	of map[string]string // user, by ticket
}

// AcquireGenericServiceTicket answers with a ticket that the datastore's HTTP service takes once.
func (s *shadow) AcquireGenericServiceTicket(ctx *simulator.Context, _ *types.AcquireGenericServiceTicket) soap.HasFault {
	id := newUUID()
	t := &s.v.tickets
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]string{}
	}
	t.of[id] = ctx.Session.UserName
	return ticketBody(id, s.v.server.addr)
}

const (
	folderPath   = "/folder/"
	ticketCookie = "vmware_cgi_ticket"
)

// user returns who sends the request, or "" if it carries neither the cookie of a session nor a ticket.
func (s *server) user(r *http.Request) string {
	if c, err := r.Cookie(ticketCookie); err == nil {
		t := &s.v.tickets
		t.mu.Lock()
		defer t.mu.Unlock()
		who := t.of[c.Value]
		delete(t.of, c.Value)
		return who
	}
	if c, err := r.Cookie(soap.SessionCookieName); err == nil {
		for _, session := range s.v.sessions() {
			if session.Key == strings.Trim(c.Value, `"`) {
				return session.UserName
			}
		}
	}
	return ""
}

// serveFolder reads and writes files of datastores. vcsim does it for anybody, and makes missing directories.
func (s *server) serveFolder(w http.ResponseWriter, r *http.Request) {
	s.v.counts.called(r.Method)
	s.v.faults.delay(s.v.context(""), r.Method)
	if s.v.faults.next(r.Method) != nil {
		http.Error(w, "the lab was asked for this", http.StatusInternalServerError)
		return
	}
	if s.v.opts.Plain {
		s.v.service.ServeDatastore(w, r)
		return
	}
	who := s.user(r)
	if who == "" {
		http.Error(w, "not authenticated", http.StatusUnauthorized)
		return
	}
	need := privBrowse
	writes := r.Method != http.MethodGet && r.Method != http.MethodHead
	if writes {
		need = privFiles
	}
	if !s.v.may(who, need) {
		http.Error(w, "no permission: "+need, http.StatusForbidden)
		return
	}
	if writes {
		name := object.DatastorePath{Datastore: r.URL.Query().Get("dsName"), Path: strings.TrimPrefix(r.URL.Path, folderPath)}
		file, fault := s.v.resolve(name.String())
		if fault != nil {
			http.Error(w, describe(fault), http.StatusNotFound)
			return
		}
		if _, err := os.Stat(path.Dir(file)); err != nil {
			http.Error(w, "no such directory", http.StatusNotFound)
			return
		}
	}
	s.v.service.ServeDatastore(w, r)
}
