package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-sh/mooring"
)

// Files says where the project is.
type Files struct {
	// Dir is the project's directory. Names in Compose are relative to it.
	Dir string
	// Compose are the compose files, in their order. None: those that compose finds in Dir, with the override file beside them.
	Compose []string
	// Project is the project's name. Empty: as compose names it.
	Project string
}

// mains and overrides are the files that compose looks for, in its order.
func mains() []string {
	return []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}
}

func overrides() []string {
	return []string{"compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"}
}

// found returns the files that the project is read from; a file that is not there is among them only if it was asked for by name.
func (f Files) found() []string {
	var files []string
	for _, name := range f.Compose {
		files = append(files, f.path(name))
	}
	if len(f.Compose) == 0 {
		files = append(f.first(mains()), f.first(overrides())...)
	}
	return append(files, f.first([]string{".env"})...)
}

// first returns the first of the names that exists in the project's directory, or nothing.
func (f Files) first(names []string) []string {
	for _, name := range names {
		if _, err := os.Stat(f.path(name)); err == nil {
			return []string{f.path(name)}
		}
	}
	return nil
}

func (f Files) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(f.Dir, name)
}

// stamp changes when one of the files does.
func (f Files) stamp() string {
	var b strings.Builder
	for _, file := range f.found() {
		info, err := os.Stat(file)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", file, err)
			continue
		}
		sys, _ := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&b, file, info.Size(), info.ModTime().UnixNano(), sys.Ino)
	}
	return b.String()
}

// composeCommand is how compose is called here, once it was found.
type composeCommand []string

// findCompose returns the first of compose's commands that works: the plugin of the docker command, or the command that came before it.
func findCompose(ctx context.Context) (composeCommand, error) {
	for _, argv := range []composeCommand{{"docker", "compose"}, {"docker-compose"}} {
		if _, err := exec.LookPath(argv[0]); err != nil {
			continue
		}
		if _, err := argv.output(ctx, "", "version"); err == nil {
			return argv, nil
		} else if ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, &mooring.HintError{
		Err:  fmt.Errorf("neither docker compose nor docker-compose is installed: %w", mooring.ErrNotFound),
		Hint: "apt-get install docker-compose (or docker-compose-plugin from Docker's own repository)",
	}
}

// on returns compose's arguments for the project, before the verb.
func (f Files) on(project string) []string {
	var args []string
	for _, name := range f.Compose {
		args = append(args, "-f", f.path(name))
	}
	if project == "" {
		project = f.Project
	}
	if project != "" {
		args = append(args, "-p", project)
	}
	return args
}

// output runs compose in dir and returns what it printed on standard output. The error has the end of what it printed on standard error.
func (c composeCommand) output(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c[0], append(slices.Clip(c[1:]), args...)...)
	cmd.Dir = dir
	// docker compose is a child of docker, which does not pass on that it was killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s has not ended: %w", strings.Join(c, " "), context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(c, " "), err, lastLines(said.String()))
	}
	return out.Bytes(), nil
}

// lastLines returns the last three lines of what a command said as one.
func lastLines(said string) string {
	var lines []string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

// read returns the project as compose sees it. The error's hint is what to do.
func (f Files) read(ctx context.Context, c composeCommand) (Project, error) {
	if info, err := os.Stat(f.Dir); err != nil || !info.IsDir() {
		return Project{}, &mooring.HintError{
			Err:  fmt.Errorf("the project's directory %s is not there: %w", f.Dir, mooring.ErrNotFound),
			Hint: "name the right directory in the configuration, or mount what it lies on",
		}
	}
	for _, file := range f.found() {
		if err := readable(file); err != nil {
			return Project{}, err
		}
	}
	if len(f.Compose) == 0 && len(f.first(mains())) == 0 {
		return Project{}, &mooring.HintError{
			Err:  fmt.Errorf("no compose file in %s: looked for %s: %w", f.Dir, strings.Join(mains(), ", "), mooring.ErrNotFound),
			Hint: "name the right directory in the configuration, or mount what it lies on",
		}
	}
	text, err := c.output(ctx, f.Dir, append(f.on(""), "config")...)
	if err != nil {
		return Project{}, &mooring.HintError{
			Err:  fmt.Errorf("the compose project in %s cannot be read: %w", f.Dir, err),
			Hint: "cd " + f.Dir + " && " + strings.Join(append(slices.Clip(c), f.on("")...), " ") + " config -q",
		}
	}
	p, err := parseProject(text)
	if err != nil {
		return Project{}, fmt.Errorf("%s config in %s: %w", strings.Join(c, " "), f.Dir, err)
	}
	if f.Project != "" {
		p.Name = f.Project
	}
	if p.Name == "" {
		p.Name = f.name()
	}
	p.complete()
	return p, nil
}

// readable says why the file cannot be read, and what to do.
func readable(file string) error {
	r, err := os.Open(file)
	if err != nil {
		return &mooring.HintError{Err: fmt.Errorf("the compose file cannot be read: %w", err), Hint: "ls -l " + file}
	}
	_, err = r.Read(make([]byte, 1))
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return &mooring.HintError{
			Err:  fmt.Errorf("the compose file %s cannot be read, or is empty: %w", file, err),
			Hint: "restore " + file + " from a backup; Harbor's prepare script makes it anew from harbor.yml",
		}
	}
	return nil
}

// name returns the project's name as docker-compose finds it, which does not print it: the environment file has the last word before the directory.
func (f Files) name() string {
	if text, err := os.ReadFile(f.path(".env")); err == nil {
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "COMPOSE_PROJECT_NAME="); ok && value != "" {
				return normal(strings.Trim(value, `"'`))
			}
		}
	}
	dir := f.Dir
	if len(f.Compose) > 0 {
		dir = filepath.Dir(f.path(f.Compose[0]))
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return normal(filepath.Base(dir))
}

// normal returns what compose makes of a project's name.
func normal(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(name))
}

// hint returns the cure that the error carries.
func hint(err error) string {
	if h, ok := errors.AsType[*mooring.HintError](err); ok {
		return h.Hint
	}
	return ""
}
