package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/durable"
	"github.com/mooring-sh/mooring/supervisor"
)

// mark is beside every line that Mooring writes into an override file.
const mark = "# mooring: the supervisor opens the door last"

// CloseDoors sees to it that dockerd does not start the entry service by itself: it writes restart: "no" into the project's override file, and gives an existing container
// that policy. It returns the file if it was written or changed. The main file is never touched: Harbor's prepare script makes it anew, and leaves the override alone.
func (s *Stack) CloseDoors(ctx context.Context) (written string, err error) {
	name, c, err := s.entryContainer()
	if name == "" {
		return "", err
	}
	file, err := s.cfg.Files.override()
	if err != nil {
		return "", err
	}
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read override file: %w", err)
	}
	text, err := splice(old, name)
	if err != nil {
		return "", &mooring.HintError{
			Err:  fmt.Errorf("override file %s: %w", file, err),
			Hint: fmt.Sprintf("write by hand, below services, %s: {restart: \"no\"}", name),
		}
	}
	if !bytes.Equal(old, text) {
		mode := fs.FileMode(0o644)
		if info, err := os.Stat(file); err == nil {
			mode = info.Mode().Perm()
		}
		if err := durable.WriteFile(file, text, mode); err != nil {
			return "", fmt.Errorf("write override file: %w", err)
		}
		written = file
	}
	if c.ID != "" && c.Policy != "no" && c.Policy != "" {
		if err := s.engine.SetPolicy(ctx, c.ID, "no"); err != nil {
			return written, err
		}
		s.stir(c.ID)
	}
	return written, nil
}

// override returns the project's override file, or where it has to be.
func (f Files) override() (string, error) {
	if len(f.Compose) > 0 {
		for _, name := range f.Compose {
			if strings.Contains(filepath.Base(name), ".override.") {
				return f.path(name), nil
			}
		}
		return "", &mooring.HintError{
			Err:  fmt.Errorf("the project is read from files given by name, and none of them is an override file: %w", mooring.ErrInvalid),
			Hint: "add docker-compose.override.yml to the list, as the last",
		}
	}
	if there := f.first(overrides()); len(there) > 0 {
		return there[0], nil
	}
	if main := f.first(mains()); len(main) > 0 && strings.HasPrefix(filepath.Base(main[0]), "compose.") {
		return f.path("compose.override.yaml"), nil
	}
	return f.path("docker-compose.override.yml"), nil
}

// splice returns the override file with restart: "no" for the service. Every line that has nothing to do with it stays as it is, comments and all.
func splice(old []byte, service supervisor.ServiceName) ([]byte, error) {
	lines := strings.SplitAfter(string(old), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	} else {
		lines[last] += "\n"
	}
	insert := func(at int, text ...string) { lines = slices.Insert(lines, at, text...) }
	root, err := mapping(old)
	if err != nil {
		return nil, err
	}
	services := value(root, "services")
	own := value(services, string(service))
	restart := value(own, "restart")
	entryLines := func(indent int) []string {
		pad := strings.Repeat(" ", indent)
		return []string{pad + string(service) + ":\n", pad + "  restart: \"no\" " + mark + "\n"}
	}
	switch {
	case restart != nil && restart.Value == "no" && restart.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		return old, nil // without quotes, docker-compose reads false
	case restart != nil && restart.Style&yaml.FlowStyle == 0 && own.Style&yaml.FlowStyle == 0 && restart.Kind == yaml.ScalarNode:
		line := lines[restart.Line-1]
		lines[restart.Line-1] = line[:restart.Column-1] + "\"no\" " + mark + "; it was " + strings.TrimSpace(line[restart.Column-1:]) + "\n"
	case block(own):
		first := own.Content[0]
		insert(first.Line-1, strings.Repeat(" ", first.Column-1)+"restart: \"no\" "+mark+"\n")
	case own == nil && block(services):
		first := services.Content[0]
		insert(first.Line-1, entryLines(first.Column-1)...)
	case services == nil && (root == nil || root.Style&yaml.FlowStyle == 0):
		insert(len(lines), append([]string{"services:\n"}, entryLines(2)...)...)
	default:
		return nil, errors.New("it is written in a way in which nothing can be put in without rewriting it")
	}
	text := []byte(strings.Join(lines, ""))
	return text, spliced(old, text, service)
}

// spliced checks that the text says what the old one said, and the restart policy.
func spliced(old, text []byte, service supervisor.ServiceName) error {
	var before, after map[string]any
	if err := yaml.Unmarshal(old, &before); err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, &after); err != nil {
		return fmt.Errorf("what would be written is no YAML: %w", err)
	}
	if before == nil {
		before = make(map[string]any)
	}
	services, _ := before["services"].(map[string]any)
	if services == nil {
		services = make(map[string]any)
		before["services"] = services
	}
	own, _ := services[string(service)].(map[string]any)
	if own == nil {
		own = make(map[string]any)
		services[string(service)] = own
	}
	own["restart"] = "no"
	want, err := yaml.Marshal(before)
	if err != nil {
		return err
	}
	got, err := yaml.Marshal(after)
	if err != nil {
		return err
	}
	if !bytes.Equal(want, got) {
		return errors.New("what would be written says something else than what is there")
	}
	return nil
}

// mapping returns the document's mapping, or nil for a document without anything.
func mapping(text []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil //nolint:nilnil // a file without anything is no error
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("want a mapping")
	}
	return doc.Content[0], nil
}

// value returns the key's value in the mapping, or nil.
func value(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// block reports whether the mapping is written on lines of its own, and has something in it.
func block(m *yaml.Node) bool {
	return m != nil && m.Kind == yaml.MappingNode && m.Style&yaml.FlowStyle == 0 && len(m.Content) > 0
}

// Conditions returns what is wrong with the way in which the stack is set up. What is wrong with its services is the supervisor's to tell.
func (s *Stack) Conditions() []admin.Condition {
	var all []admin.Condition
	name, c, err := s.entryContainer()
	if err == nil && c.Policy != "no" && c.Policy != "" {
		all = append(all, admin.Condition{
			Code: "door-open", Severity: admin.Warning, Title: "dockerd opens the door",
			Text: fmt.Sprintf("the container %s of the entry service %s has the restart policy %s: after a restart dockerd starts it before anything is proved", c.Name, name, c.Policy),
			Cure: fmt.Sprintf("write restart: \"no\" for %s into the override file, then docker update --restart=no %s", name, c.Name),
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.project.project.Services[name]; err == nil && ok && p.Restart != "no" && c.Policy == "no" {
		all = append(all, admin.Condition{
			Code: "door-file", Severity: admin.Warning, Title: "the override file is not in force",
			Text: fmt.Sprintf("the compose project gives the entry service %s the restart policy %s: its container is right, the next one that compose makes will not be", name, p.Restart),
			Cure: fmt.Sprintf("write restart: \"no\" for %s into the override file", name),
		})
	}
	for _, text := range s.marks {
		all = append(all, admin.Condition{
			Code: "mount-point-open", Severity: admin.Warning, Title: "an unmounted directory can be written",
			Text: text + ": a container that starts before the mount would write onto the machine's own disk", Cure: "chattr +i it by hand, while nothing is mounted there",
		})
	}
	return all
}
