package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

// Registry is what a profile says of the stack's registry.
type Registry struct {
	// Service keeps the images, in the directory Storage of its container, which has docker/registry/v2 in it.
	Service supervisor.ServiceName `yaml:"service"`
	Storage string                 `yaml:"storage"`
	// Cache is the service whose cache goes on answering for blobs that were replaced: it has a flush, or else it is restarted.
	Cache supervisor.ServiceName `yaml:"cache"`
	// Tags is the database that knows the tags. Without one the storage does.
	Tags *TagDatabase `yaml:"tags"`
}

// TagDatabase is a database that knows the tags.
type TagDatabase struct {
	Service supervisor.ServiceName `yaml:"service"`
	As      string                 `yaml:"as"` // whose tables it has: harbor
}

// TagsAsHarbor is the [TagDatabase.As] of Harbor's database, a PostgreSQL.
const TagsAsHarbor = "harbor"

func (r *Registry) check() error {
	if r == nil {
		return nil
	}
	var errs []error
	if r.Service == "" || !strings.HasPrefix(r.Storage, "/") {
		errs = append(errs, errors.New("registry.service, registry.storage: want the service, and an absolute path in its container"))
	}
	if t := r.Tags; t != nil && (t.Service == "" || t.As != TagsAsHarbor) {
		errs = append(errs, fmt.Errorf("registry.tags: want a service, and as: %s, the only tables that are known", TagsAsHarbor))
	}
	return errors.Join(errs...)
}

// storage returns where the registry's images are kept; none, if the stack has no registry.
func (v view) storage() supervisor.Storage {
	r := v.profile.Registry
	if r == nil || !slices.Contains(v.names(), r.Service) {
		return supervisor.Storage{}
	}
	s := supervisor.Storage{Service: r.Service}
	if r.Tags != nil && slices.Contains(v.names(), r.Tags.Service) {
		s.Tags = r.Tags.Service
	}
	if slices.Contains(v.names(), r.Cache) {
		s.Cache = r.Cache
	}
	var at docker.Mount
	for _, m := range v.mounts(r.Service) { // the innermost counts
		if within(r.Storage, m.Target) && len(m.Target) > len(at.Target) {
			at = m
		}
	}
	rel, err := filepath.Rel(at.Target, r.Storage)
	source := cmp.Or(at.Source, v.volumes[at.Volume].mountpoint)
	switch {
	case at.Target == "" || err != nil: // in the container itself, and gone with it
	case at.Volume != "" && cmp.Or(at.Driver, v.volumes[at.Volume].driver) == mooring.DriverName:
		s.Volume, s.Dir = mooring.Name(at.Volume), rel
	case source != "":
		s.Dir = filepath.Join(source, rel)
	}
	return s
}

// Exec runs the command in the service's container, as the container's own user, and writes what it prints to out. The error wraps [mooring.ErrUnavailable] if the service is not ready.
func (s *Stack) Exec(ctx context.Context, service supervisor.ServiceName, argv []string, out io.Writer) error {
	s.mu.Lock()
	v := view{profile: s.cfg.Profile, project: s.project.project, containers: byService(s.seen.containers), ready: maps.Clone(s.ready)}
	s.mu.Unlock()
	c := v.worst(service)
	if ready, why := v.readiness(service, c); ready == mooring.No || c == nil {
		return fmt.Errorf("%s is not ready: %s: %w", service, why, mooring.ErrUnavailable)
	}
	exit, complaint, err := s.engine.Tell(ctx, c.ID, "", argv, out)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", service, err)
	case exit != 0:
		return fmt.Errorf("%s: exit code %d: %s", service, exit, oneLine(complaint))
	}
	return nil
}
