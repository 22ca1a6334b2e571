package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
	"github.com/mooring-sh/mooring/internal/admin"
)

// Client speaks to a lab through its control socket. The error of each method wraps [mooring.ErrUnavailable] if no lab is up.
type Client struct{ http *http.Client }

// Dial returns a client of the lab in the directory.
func Dial(dir string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", Socket(dir))
		},
	}}}
}

// Status asks the lab how it is.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/status", nil, &s)
}

// Hosts lists the hosts.
func (c *Client) Hosts(ctx context.Context) (hosts []vcenter.Host, err error) {
	return hosts, c.call(ctx, http.MethodGet, "/hosts", nil, &hosts)
}

// Events lists what vCenter has written, the oldest first.
func (c *Client) Events(ctx context.Context) (events []vcenter.Event, err error) {
	return events, c.call(ctx, http.MethodGet, "/events", nil, &events)
}

// Disks lists the virtual disks on the datastores.
func (c *Client) Disks(ctx context.Context) (disks []vcenter.Stored, err error) {
	return disks, c.call(ctx, http.MethodGet, "/disks", nil, &disks)
}

// Do gives an order.
func (c *Client) Do(ctx context.Context, o Order) error {
	return c.call(ctx, http.MethodPost, "/order", o, &struct{}{})
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return noLab(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return problem(res)
	}
	return json.NewDecoder(res.Body).Decode(out)
}

func noLab(err error) error {
	return fmt.Errorf("no lab answers: %w", errors.Join(err, mooring.ErrUnavailable))
}

// problem returns the error that the lab has answered with.
func problem(res *http.Response) error {
	var p admin.Problem
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil || p.Text == "" {
		return fmt.Errorf("the lab answers %s: %w", res.Status, errors.Join(err, mooring.ErrUnavailable))
	}
	return p.Err()
}
