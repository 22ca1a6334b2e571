package stack_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/stack"
)

func registryProfile(t *testing.T) stack.Profile {
	t.Helper()
	p, err := stack.ParseProfile([]byte(`
registry:
  service: registry
  storage: /storage/images
  cache: redis
  tags: {service: db, as: harbor}
services: {db: {ready: {exec: [ready]}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The storage is where the registry's container has it mounted: in a volume of ours, of which the plugin knows where that is, or in a directory of the machine.
func TestStorageIsFoundAmongTheMounts(t *testing.T) {
	for name, c := range map[string]struct {
		mounts []docker.Mount
		want   supervisor.Storage
	}{
		"a volume of ours": {
			[]docker.Mount{{Type: "volume", Volume: "r", Driver: mooring.DriverName, Source: "/x", Target: "/storage"}}, supervisor.Storage{Volume: "r", Dir: "images"},
		},
		"a volume that is the storage": {
			[]docker.Mount{{Type: "volume", Volume: "r", Driver: mooring.DriverName, Target: "/storage/images"}}, supervisor.Storage{Volume: "r", Dir: "."},
		},
		"another driver's volume": {
			[]docker.Mount{{Type: "volume", Volume: "r", Driver: "local", Source: "/var/lib/docker/volumes/r/_data", Target: "/storage"}},
			supervisor.Storage{Dir: "/var/lib/docker/volumes/r/_data/images"},
		},
		"the innermost counts": {
			[]docker.Mount{{Type: "bind", Source: "/data/registry", Target: "/storage"}, {Type: "bind", Source: "/data", Target: "/"}}, supervisor.Storage{Dir: "/data/registry/images"},
		},
		"in the container itself": {[]docker.Mount{{Type: "bind", Source: "/etc", Target: "/storage/images/conf"}}, supervisor.Storage{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newFakeEngine(t)
			e.add(container{ID: "r", Service: "registry", State: "exited", Mounts: c.mounts}, container{ID: "d", Service: "db", State: "running"})
			s := newStack(t, e, stack.Config{Profile: registryProfile(t)})
			c.want.Service, c.want.Tags = "registry", "db"
			if got := s.Observe(t.Context()).Storage; got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// A stack without the profile's registry has no images to prove, and one without its database has its tags in the storage.
func TestStackWithoutARegistry(t *testing.T) {
	e := newFakeEngine(t)
	e.add(container{ID: "d", Service: "db", State: "running"})
	s := newStack(t, e, stack.Config{Profile: registryProfile(t)})
	if got := s.Observe(t.Context()).Storage; got != (supervisor.Storage{}) {
		t.Errorf("no registry: got %+v", got)
	}
	e.add(container{ID: "r", Service: "registry", State: "running"}, container{ID: "c", Service: "redis", State: "running"})
	e.remove("db")
	eventually(t, "the registry is alone", func() bool {
		return s.Observe(t.Context()).Storage == supervisor.Storage{Service: "registry", Cache: "redis"}
	})
}

// What a service's command prints is read, all of it, when the service is ready; what it complains of is said.
func TestCommandIsRunInAService(t *testing.T) {
	e := newFakeEngine(t)
	ready, exit, rows := 1, 0, strings.Repeat("image\tlibrary/a\tsha256:00\tx\n", 2000)
	e.exec = func(_ container, argv []string) (int, string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if argv[0] == "ready" {
			return ready, ""
		}
		return exit, rows
	}
	set := func(to func()) {
		e.mu.Lock()
		defer e.mu.Unlock()
		to()
	}
	e.add(container{ID: "r", Service: "registry", State: "running"}, container{ID: "d", Service: "db", State: "running", Started: time.Now()})
	s := newStack(t, e, stack.Config{Profile: registryProfile(t)})
	var said strings.Builder
	if err := s.Exec(t.Context(), "db", []string{"rows"}, &said); !errors.Is(err, mooring.ErrUnavailable) {
		t.Errorf("a database that is not ready: got %v, want that it is unavailable", err)
	}
	set(func() { ready = 0 })
	eventually(t, "the database is ready", func() bool { return observe(t, s)["db"].Ready == mooring.Yes })
	if err := s.Exec(t.Context(), "db", []string{"rows"}, &said); err != nil || said.String() != rows {
		t.Errorf("rows: got %d bytes, %v, want %d", said.Len(), err, len(rows))
	}
	set(func() { exit = 3 })
	if err := s.Exec(t.Context(), "db", []string{"rows"}, &said); err == nil || errors.Is(err, mooring.ErrUnavailable) || !strings.Contains(err.Error(), "db: exit code 3") {
		t.Errorf("a command that fails: got %v", err)
	}
	e.change("db", func(c *container) { c.State = "exited"; e.tellOf(*c, "die") })
	eventually(t, "the database is down", func() bool {
		observe(t, s)
		return errors.Is(s.Exec(t.Context(), "db", []string{"rows"}, &said), mooring.ErrUnavailable)
	})
}
