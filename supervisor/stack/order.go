package stack

import (
	"maps"
	"slices"
	"strings"

	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

// sorted returns the names in their order.
func sorted[V any](by map[supervisor.ServiceName]V) []supervisor.ServiceName {
	return slices.Sorted(maps.Keys(by))
}

// dependencyGraph returns what each service comes after: what the project says and what the profile adds, without services that do not exist, and without
// circles, which compose refuses but a profile may close. The project's word counts more: of a circle the profile's edge goes first.
func dependencyGraph(p Project, profile Profile) map[supervisor.ServiceName][]supervisor.ServiceName {
	graph := make(map[supervisor.ServiceName][]supervisor.ServiceName, len(p.Services))
	add := func(from, to supervisor.ServiceName) {
		_, known := p.Services[to]
		if known && from != to && !slices.Contains(graph[from], to) && !reaches(graph, to, from) {
			graph[from] = append(graph[from], to)
		}
	}
	names := sorted(p.Services)
	for _, name := range names {
		for _, other := range p.Services[name].After {
			add(name, other)
		}
	}
	for _, name := range names {
		for _, other := range profile.Services[name].After {
			add(name, other)
		}
	}
	return graph
}

// labelled returns what the containers' labels say of the order, and whether they say it. Compose has written it there since its second version.
func labelled(containers map[supervisor.ServiceName][]docker.Container) (p Project, told bool) {
	p = Project{Services: make(map[supervisor.ServiceName]Service, len(containers))}
	for name, list := range containers {
		var after []supervisor.ServiceName
		for _, c := range list {
			edges, ok := c.Labels[labelDependsOn]
			told = told || ok
			for edge := range strings.SplitSeq(edges, ",") {
				if other, _, _ := strings.Cut(edge, ":"); other != "" {
					after = append(after, supervisor.ServiceName(other))
				}
			}
		}
		p.Services[name] = Service{After: after}
	}
	return p, told
}

// reaches reports whether from comes after to, directly or by others.
func reaches(graph map[supervisor.ServiceName][]supervisor.ServiceName, from, to supervisor.ServiceName) bool {
	if from == to {
		return true
	}
	return slices.ContainsFunc(graph[from], func(next supervisor.ServiceName) bool { return reaches(graph, next, to) })
}

// entry returns the service that opens the doors: the one that was asked for, else the profile's, else the only one that publishes ports and that
// no other comes after. Empty: there is none, or no telling.
func entry(p Project, profile Profile, asked supervisor.ServiceName, graph map[supervisor.ServiceName][]supervisor.ServiceName) supervisor.ServiceName {
	switch {
	case asked == NoEntry:
		return ""
	case asked != "":
		return asked
	case profile.Entry != "":
		if _, ok := p.Services[profile.Entry]; ok {
			return profile.Entry
		}
	}
	needed := make(map[supervisor.ServiceName]bool)
	for _, after := range graph {
		for _, name := range after {
			needed[name] = true
		}
	}
	var doors []supervisor.ServiceName
	for _, name := range sorted(p.Services) {
		if s := p.Services[name]; len(s.Ports) > 0 && len(graph[name]) > 0 && !needed[name] && !s.Once {
			doors = append(doors, name)
		}
	}
	if len(doors) != 1 {
		return ""
	}
	return doors[0]
}
