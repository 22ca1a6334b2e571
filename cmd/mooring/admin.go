package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

const (
	// The plugin answers from its ledger, so a long wait means that it hangs.
	adminTimeout = 15 * time.Second
	// The doctor asks vCenter, systemd and Docker, and gives up on each in time.
	doctorTimeout = time.Minute
	// A rebuild of the ledger asks vCenter about every volume, one after the other, and a release waits for a machine that is busy.
	workTimeout = 10 * time.Minute
)

// adminClient asks the plugin or the supervisor on this machine.
type adminClient struct {
	who    string // plugin or supervisor
	socket string
	http   http.Client
}

// newAdminClient returns a client of the plugin, at the socket that the environment names or at the usual one.
func newAdminClient() *adminClient {
	return newClient("plugin", cmp.Or(os.Getenv(admin.SocketEnv), admin.DefaultSocket))
}

// newSupervisorClient returns a client of the supervisor, as newAdminClient does of the plugin.
func newSupervisorClient() *adminClient {
	return newClient("supervisor", cmp.Or(os.Getenv(admin.SupervisorSocketEnv), admin.SupervisorSocket))
}

func newClient(who, socket string) *adminClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &adminClient{
		who:    who,
		socket: socket,
		http:   http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: adminTimeout},
	}
}

// get reads the answer at path into v.
func (c *adminClient) get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, http.NoBody, v)
}

// installed reports whether there is such a program on this machine: something at its socket, or the program where packages put it, in the sbin that
// goes with this command's bin. PATH says nothing: the directory of a source tree may be in it.
func (c *adminClient) installed() bool {
	if _, err := os.Lstat(c.socket); !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(filepath.Dir(self)), "sbin", "mooring-"+c.who))
	return err == nil
}

// post asks for what takes its time, with what as JSON (nil for nothing), and reads the answer into v.
func (c *adminClient) post(ctx context.Context, path string, what, v any) error {
	c.http.Timeout = workTimeout
	var body io.Reader = http.NoBody
	if what != nil {
		text, err := json.Marshal(what)
		if err != nil {
			return fmt.Errorf("ask the %s for %s: %w", c.who, path, err)
		}
		body = bytes.NewReader(text)
	}
	return c.do(ctx, http.MethodPost, path, body, v)
}

func (c *adminClient) do(ctx context.Context, method, path string, body io.Reader, v any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://mooring-"+c.who+path, body)
	if err != nil {
		return fmt.Errorf("ask the %s for %s: %w", c.who, path, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.unreachable(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return c.problem(response)
	}
	if err := json.NewDecoder(response.Body).Decode(v); err != nil {
		return c.unreachable(err)
	}
	return nil
}

// unreachable says that nobody answers at the socket, or not in the way that is expected.
func (c *adminClient) unreachable(err error) error {
	hint := "systemctl status mooring-" + c.who
	if errors.Is(err, fs.ErrPermission) {
		hint = "only root may ask the " + c.who + ": sudo mooring ..."
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err // the rest of the text is the address
	}
	return &mooring.HintError{
		Err:  fmt.Errorf("ask the %s at %s: %w: %w", c.who, c.socket, mooring.ErrUnavailable, err),
		Hint: hint,
	}
}

// problem returns the error that was answered.
func (c *adminClient) problem(response *http.Response) error {
	var p admin.Problem
	if err := json.NewDecoder(response.Body).Decode(&p); err != nil || p.Text == "" {
		return fmt.Errorf("the %s answered %s without saying why", c.who, response.Status)
	}
	return p.Err()
}
