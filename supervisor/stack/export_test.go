package stack

import (
	"context"
	"os"
	"time"

	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

// What only the tests see.
type (
	Ending    = ending
	Probe     = probe
	Witnessed = witnessed
)

var (
	ParseProfile = parseProfile
	Splice       = splice
	Guard        = guard
	Mountpoints  = mountpoints
	Refusal      = refusal
	Parameters   = parameters
	SplitImage   = splitImage
)

func (e Ending) ByPerson() string { return string(e.byPerson()) }

func (w Witnessed) Hear(events ...docker.Event) Witnessed {
	for _, e := range events {
		w = w.hear(e)
	}
	return w
}

func (w Witnessed) Ended() bool  { return w.ended }
func (w Witnessed) Killed() bool { return w.killed }

// TryWriting tries to write with a prober of its own.
func TryWriting(ctx context.Context, command []string, dir string, uid, gid int) Probe {
	return newProber(command).try(ctx, dir, uid, gid)
}

// TryWithin is the same with other limits.
func TryWithin(ctx context.Context, start, write time.Duration, command []string, dir string) Probe {
	p := newProber(command)
	p.start, p.write = start, write
	return p.try(ctx, dir, os.Geteuid(), os.Getegid())
}

// ParseProject reads what compose printed, for a project of that name.
func ParseProject(text []byte, name string) (Project, error) {
	p, err := parseProject(text)
	if p.Name == "" {
		p.Name = name
	}
	p.complete()
	for _, s := range p.Services {
		for i := range s.Mounts {
			s.Mounts[i].key = ""
		}
	}
	return p, err
}

// Order returns what each service comes after, and the entry service.
func Order(p Project, profile Profile, asked supervisor.ServiceName) (map[supervisor.ServiceName][]supervisor.ServiceName, supervisor.ServiceName) {
	graph := dependencyGraph(p, profile)
	return graph, entry(p, profile, asked, graph)
}

// ReadProject reads the project with the compose command that is found.
func ReadProject(ctx context.Context, f Files) (Project, error) {
	c, err := findCompose(ctx)
	if err != nil {
		return Project{}, err
	}
	return f.read(ctx, c)
}
