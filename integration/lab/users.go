package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/mooring-sh/mooring"
)

// VolumeUsers returns the names of the running containers that have a volume of the driver, for people who are told why it stays mounted.
func (e *Engine) VolumeUsers(ctx context.Context) ([]string, error) {
	var list []struct {
		Names  []string
		Mounts []struct{ Driver string }
	}
	if err := e.get(ctx, "/containers/json", nil, &list); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var out []string
	for _, c := range list {
		for _, m := range c.Mounts {
			if m.Driver == mooring.DriverName && len(c.Names) > 0 {
				out = append(out, strings.TrimPrefix(c.Names[0], "/"))
				break
			}
		}
	}
	return out, nil
}

// get asks Docker's API.
func (e *Engine) get(ctx context.Context, path string, query url.Values, out any) error {
	client, base := e.client()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("docker answers %s: %w", res.Status, mooring.ErrUnavailable)
	}
	if out == nil {
		_, err := io.Copy(io.Discard, res.Body)
		return err
	}
	return json.NewDecoder(res.Body).Decode(out)
}
