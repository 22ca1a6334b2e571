package plugin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/internal/ledger"
	"github.com/mooring-sh/mooring/internal/process"
)

type peerKey struct{}

// NewServer returns a server for h on Unix sockets whose requests know the process that made them.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if from, err := instanceOf(c); err == nil {
				return context.WithValue(ctx, peerKey{}, from)
			}
			return ctx
		},
	}
}

// peer returns the dockerd that made the request, or the zero value if it was somebody else or cannot be told.
func peer(ctx context.Context) ledger.Instance {
	from, _ := ctx.Value(peerKey{}).(ledger.Instance)
	return from
}

// instanceOf returns which dockerd is at the other end of c. Other clients, such as curl, are nobody: their coming does not make
// the holders of the real one old.
func instanceOf(c net.Conn) (ledger.Instance, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ledger.Instance{}, fmt.Errorf("peer of %s: not a Unix socket", c.LocalAddr())
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ledger.Instance{}, err
	}
	var (
		cred    *unix.Ucred
		credErr error
	)
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return ledger.Instance{}, err
	}
	if credErr != nil {
		return ledger.Instance{}, credErr
	}
	return instance(int(cred.Pid))
}

// Alive says whether that dockerd still runs.
func Alive(i ledger.Instance) bool {
	now, err := instance(i.PID)
	return err == nil && now == i
}

// instance returns the dockerd that has the process ID.
func instance(pid int) (ledger.Instance, error) {
	p, err := process.Find(pid)
	if err != nil {
		return ledger.Instance{}, err
	}
	if p.Command != "dockerd" {
		return ledger.Instance{}, fmt.Errorf("process %q is no dockerd", p.Command)
	}
	return ledger.Instance{PID: p.PID, Start: p.Start}, nil
}
