package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/supervisor"
)

const (
	volumesLimit  = 3 * time.Second // the plugin answers from its ledger
	restartsLimit = 15 * time.Second
)

// plugin is the volume driver on this machine, asked over its admin socket. It is the supervisor's [supervisor.Volumes] and [supervisor.Witness].
type plugin struct{ client http.Client }

func newPlugin(socket string) *plugin {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &plugin{http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Observe implements [supervisor.Volumes].
func (p *plugin) Observe(ctx context.Context) ([]supervisor.Volume, supervisor.Reach) {
	ctx, cancel := context.WithTimeout(ctx, volumesLimit)
	defer cancel()
	var res admin.Volumes
	if err := p.get(ctx, admin.VolumesPath, &res); err != nil {
		return nil, reach(err)
	}
	list := make([]supervisor.Volume, 0, len(res.Volumes))
	for _, v := range res.Volumes {
		list = append(list, volume(v))
	}
	return list, supervisor.Reach{}
}

// volume returns what the plugin knows of one volume.
func (p *plugin) volume(ctx context.Context, name mooring.Name) (admin.View, error) {
	ctx, cancel := context.WithTimeout(ctx, volumesLimit)
	defer cancel()
	var v admin.View
	err := p.get(ctx, admin.VolumePath(name), &v)
	return v, err
}

// Restarts implements [supervisor.Witness].
func (p *plugin) Restarts(ctx context.Context, since time.Time) ([]mooring.Sighting, error) {
	ctx, cancel := context.WithTimeout(ctx, restartsLimit)
	defer cancel()
	var res admin.Restarts
	err := p.get(ctx, admin.RestartsPath+"?since="+url.QueryEscape(since.UTC().Format(time.RFC3339)), &res)
	return res.Sightings, err
}

func (p *plugin) get(ctx context.Context, path string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://mooring-plugin"+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("ask the volume driver: %w", err)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the volume driver: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		var problem admin.Problem
		if err := json.NewDecoder(response.Body).Decode(&problem); err != nil || problem.Text == "" {
			return fmt.Errorf("ask the volume driver: it answered %s", response.Status)
		}
		return problem.Err()
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("ask the volume driver: %w", err)
	}
	return nil
}

// reach says why the plugin's volumes cannot be seen.
func reach(err error) supervisor.Reach {
	r := supervisor.Reach{Err: err.Error(), Cure: "systemctl status mooring-plugin"}
	if hint, ok := errors.AsType[*mooring.HintError](err); ok {
		r.Cure = hint.Hint
	} else if errors.Is(err, fs.ErrNotExist) {
		r.Cure = "systemctl start mooring-plugin.socket"
	}
	return r
}

// volume returns what a service that needs the volume would find.
func volume(v admin.View) supervisor.Volume {
	vol := supervisor.Volume{Name: v.Name, State: supervisor.VolumeAbsent}
	switch {
	case v.Mounted:
		vol.State = supervisor.VolumeMounted
	case v.Attached:
		vol.State = supervisor.VolumePresent
	}
	codes := map[string]supervisor.VolumeState{
		"taken": supervisor.VolumeTaken, "fenced": supervisor.VolumeFenced,
		"not-mounted": supervisor.VolumeDamaged, "missing": supervisor.VolumeDamaged, "foreign-mount": supervisor.VolumeDamaged,
	}
	i := slices.IndexFunc(v.Conditions, func(c admin.Condition) bool { return codes[c.Code] != "" })
	if i < 0 || v.Mounted && v.Conditions[i].Code == "missing" { // what is mounted can be used, whatever the listing says
		return vol
	}
	c := v.Conditions[i]
	vol.State, vol.Text, vol.Cure = codes[c.Code], c.Text, c.Cure
	if c.Retried && vol.State == supervisor.VolumeDamaged {
		vol.State = supervisor.VolumeFetching
	}
	return vol
}
