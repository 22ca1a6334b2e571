package stack

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mooring-sh/mooring/supervisor"
)

// Project is a compose project as compose itself reads it, with both versions' ways of writing the same thing made one.
type Project struct {
	Name     string
	Services map[supervisor.ServiceName]Service
}

// Service is one service of a [Project].
type Service struct {
	After   []supervisor.ServiceName // that must run before it
	Mounts  []Mount                  // volumes and directories of the host
	Ports   []int                    // of the container, that are published
	Restart string                   // the restart policy; no, if none is given
	User    string                   // empty: as the image says
	Once    bool                     // another service waits for it to end well: it runs once
}

// Mount is something of the host that a service mounts. One of Volume and Source is empty.
type Mount struct {
	Volume   string // as Docker knows it
	Driver   string // as the file says; empty if it does not
	Source   string
	Target   string
	ReadOnly bool

	key string // under which the file's volumes have it
}

// The shapes of what compose's config command prints.
type composeFile struct {
	Name     string                    `yaml:"name"`
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]composeVolume  `yaml:"volumes"`
}

type composeService struct {
	DependsOn yaml.Node   `yaml:"depends_on"`
	Volumes   []yaml.Node `yaml:"volumes"`
	Ports     []yaml.Node `yaml:"ports"`
	Restart   *string     `yaml:"restart"`
	User      string      `yaml:"user"`
}

type composeVolume struct {
	Name     string    `yaml:"name"`
	Driver   string    `yaml:"driver"`
	External yaml.Node `yaml:"external"` // true, or in old files {name: …}
}

type composeDependency struct {
	Condition string `yaml:"condition"`
}

type composeMount struct {
	Type     string `yaml:"type"`
	Source   string `yaml:"source"`
	Target   string `yaml:"target"`
	ReadOnly bool   `yaml:"read_only"`
}

type composePort struct {
	Target    int    `yaml:"target"`
	Published string `yaml:"published"`
}

// parseProject reads what `docker compose config` or `docker-compose config` printed. The names of volumes are not complete before the
// project's is known.
func parseProject(text []byte) (Project, error) {
	var file composeFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		return Project{}, fmt.Errorf("parse: %w", err)
	}
	p := Project{Name: file.Name, Services: make(map[supervisor.ServiceName]Service, len(file.Services))}
	once := make(map[supervisor.ServiceName]bool)
	for name, written := range file.Services {
		s := Service{User: written.User, Restart: "no"}
		if written.Restart != nil {
			s.Restart, _, _ = strings.Cut(*written.Restart, ":")
		}
		var err error
		if s.After, err = dependencies(written.DependsOn, once); err != nil {
			return Project{}, fmt.Errorf("service %s: depends_on: %w", name, err)
		}
		if s.Mounts, err = mounts(written.Volumes, file.Volumes); err != nil {
			return Project{}, fmt.Errorf("service %s: volumes: %w", name, err)
		}
		if s.Ports, err = published(written.Ports); err != nil {
			return Project{}, fmt.Errorf("service %s: ports: %w", name, err)
		}
		p.Services[supervisor.ServiceName(name)] = s
	}
	for name := range once {
		if s, ok := p.Services[name]; ok {
			s.Once = true
			p.Services[name] = s
		}
	}
	return p, nil
}

// complete gives the volumes that the file does not name the names that Docker knows them by.
func (p Project) complete() {
	for _, s := range p.Services {
		for i, m := range s.Mounts {
			if m.key != "" && m.Volume == "" {
				s.Mounts[i].Volume = p.Name + "_" + m.key
			}
		}
	}
}

// dependencies reads both forms, a list of names and a mapping with conditions. A service that another waits for to end well goes into once.
func dependencies(n yaml.Node, once map[supervisor.ServiceName]bool) ([]supervisor.ServiceName, error) {
	if n.Kind == yaml.SequenceNode {
		var names []supervisor.ServiceName
		return names, n.Decode(&names)
	}
	var by map[supervisor.ServiceName]composeDependency
	if err := n.Decode(&by); err != nil && n.Kind != 0 {
		return nil, err
	}
	for name, d := range by {
		if d.Condition == "service_completed_successfully" {
			once[name] = true
		}
	}
	return sorted(by), nil
}

// mounts reads both forms, SOURCE:TARGET[:OPTIONS] and a mapping. What is made for the container alone (an anonymous volume, a tmpfs) is left out.
func mounts(nodes []yaml.Node, volumes map[string]composeVolume) ([]Mount, error) {
	var all []Mount
	for _, n := range nodes {
		var m composeMount
		if n.Kind == yaml.ScalarNode {
			m = shortMount(n.Value)
		} else if err := n.Decode(&m); err != nil {
			return nil, err
		}
		switch {
		case m.Source == "":
		case m.Type == "bind":
			all = append(all, Mount{Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
		case m.Type == "volume":
			v := volumes[m.Source]
			name, err := v.name(m.Source)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.Source, err)
			}
			all = append(all, Mount{Volume: name, Driver: v.Driver, Target: m.Target, ReadOnly: m.ReadOnly, key: m.Source})
		}
	}
	return all, nil
}

// shortMount reads the short form. An anonymous volume has no source.
func shortMount(text string) composeMount {
	parts := strings.Split(text, ":")
	if len(parts) < 2 {
		return composeMount{Type: "volume", Target: text}
	}
	m := composeMount{Type: "volume", Source: parts[0], Target: parts[1]}
	if strings.HasPrefix(m.Source, "/") {
		m.Type = "bind"
	}
	if len(parts) > 2 {
		m.ReadOnly = slices.Contains(strings.Split(parts[2], ","), "ro")
	}
	return m
}

// name returns the name by which Docker knows the volume, or nothing where it is made of the project's.
func (v composeVolume) name(key string) (string, error) {
	if v.Name != "" {
		return v.Name, nil
	}
	if v.External.Kind == yaml.MappingNode {
		var old struct {
			Name string `yaml:"name"`
		}
		err := v.External.Decode(&old)
		return cmp.Or(old.Name, key), err
	}
	var external bool
	if err := v.External.Decode(&external); err != nil && v.External.Kind != 0 {
		return "", err
	}
	if !external {
		return "", nil
	}
	return key, nil
}

// published reads both forms, [[IP:]HOST:]CONTAINER[/PROTOCOL] and a mapping, and returns the container's TCP ports that somebody can reach.
func published(nodes []yaml.Node) ([]int, error) {
	var ports []int
	for _, n := range nodes {
		if n.Kind == yaml.MappingNode {
			var p composePort
			if err := n.Decode(&p); err != nil {
				return nil, err
			}
			ports = append(ports, p.Target)
			continue
		}
		text, _, _ := strings.Cut(n.Value, "/")
		port, err := strconv.Atoi(text[strings.LastIndexByte(text, ':')+1:])
		if err != nil {
			return nil, fmt.Errorf("%q: want [[IP:]HOST:]CONTAINER", n.Value)
		}
		ports = append(ports, port)
	}
	return ports, nil
}
