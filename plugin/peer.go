package plugin

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/internal/ledger"
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

func instance(pid int) (ledger.Instance, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ledger.Instance{}, err
	}
	return parseStat(stat)
}

// parseStat reads a process's ID and start time from /proc/PID/stat (proc(5)), if the process is a dockerd.
func parseStat(stat []byte) (ledger.Instance, error) {
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return ledger.Instance{}, fmt.Errorf("process status %q: no command", stat)
	}
	if comm := string(stat[open+1 : end]); comm != "dockerd" {
		return ledger.Instance{}, fmt.Errorf("process %q is no dockerd", comm)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(stat[:open])))
	if err != nil {
		return ledger.Instance{}, fmt.Errorf("process status: %w", err)
	}
	const startTime = 22 - 3 // field 22; the fields after the command begin with the third
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= startTime {
		return ledger.Instance{}, fmt.Errorf("process status %q: too short", stat)
	}
	start, err := strconv.ParseUint(fields[startTime], 10, 64)
	if err != nil {
		return ledger.Instance{}, fmt.Errorf("process status: %w", err)
	}
	return ledger.Instance{PID: pid, Start: start}, nil
}
