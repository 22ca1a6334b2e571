package stack

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor"
)

// Profile is what has to be known of a stack beside its compose file: data, in files that docs/stack-profiles.md describes. Services
// that the project does not have are passed over, so that one profile fits all of a product's variants.
type Profile struct {
	// Entry is the service that opens the doors. Empty: found by the project.
	Entry    supervisor.ServiceName                 `yaml:"entry"`
	Services map[supervisor.ServiceName]Instruction `yaml:"services"`
	// Answer is what the stack says at its published port when all is well. Without one, nothing is asked.
	Answer *Door `yaml:"answer"`
	// Registry says where images are kept that must be proved. Without one there are none.
	Registry *Registry `yaml:"registry"`
}

// Instruction is what a profile says of one service. What it does not say is found by the container: its health check, its user, its mounts.
type Instruction struct {
	After  []supervisor.ServiceName `yaml:"after"`  // besides those of the compose file
	Ready  *Question                `yaml:"ready"`  // instead of the health check
	Writes map[string]int           `yaml:"writes"` // directories in the container, with the user ID that writes there
	Once   bool                     `yaml:"once"`   // it runs once, ends well, and is left so
	Flush  *Command                 `yaml:"flush"`  // empties its cache
	Reload *Command                 `yaml:"reload"` // reads its configuration and resolves its upstreams again, without breaking a connection
}

// Command is run in a service's container.
type Command struct {
	Exec []string `yaml:"exec"`
	User string   `yaml:"user"` // empty: the container's own
}

// Question is put to a running service; one of Exec, HTTP and TCP.
type Question struct {
	Exec []string `yaml:"exec"` // run in the container; exit code 0 means ready
	User string   `yaml:"user"` // for Exec; empty: the container's own
	Says string   `yaml:"says"` // what the command's output, or the page, is or begins with
	HTTP *Page    `yaml:"http"` // fetched from the container's own address
	TCP  int      `yaml:"tcp"`  // a port that takes connections: the last resort, for a port that is open proves little
	// Within is the time to answer in; if none is given 30 s, as with health checks of Docker.
	Within time.Duration `yaml:"within"`
}

// Page is fetched over HTTP; 200 is the right status.
type Page struct {
	Port int    `yaml:"port"`
	TLS  bool   `yaml:"tls"`
	Path string `yaml:"path"`
}

// Door is how the stack is asked from outside.
type Door struct {
	Ports []DoorPort    `yaml:"ports"` // of the entry service; the first that is published is asked
	Path  string        `yaml:"path"`
	Body  string        `yaml:"body"` // what the answer is, without blanks around it; empty: anything
	Limit time.Duration `yaml:"within"`
}

// DoorPort is a port of the entry service, as the container has it.
type DoorPort struct {
	Port int  `yaml:"port"`
	TLS  bool `yaml:"tls"`
}

//go:embed profiles
var profiles embed.FS

// questionLimit is long, for what makes everything slow is the start of a machine, and whoever is given up is asked again, which makes it no faster.
const questionLimit = 30 * time.Second

// Profiles returns the names of the profiles that are built in.
func Profiles() []string {
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		return nil // it is built in
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// LoadProfile returns the profile that is built in under that name, or the one in the file if name is a path. Every error names what is wrong
// with it and what is allowed, and wraps [mooring.ErrInvalid].
func LoadProfile(name string) (Profile, error) {
	var text []byte
	var err error
	if strings.Contains(name, "/") {
		text, err = os.ReadFile(name)
	} else {
		text, err = profiles.ReadFile("profiles/" + name + ".yaml")
		if err != nil {
			err = fmt.Errorf("there is none of that name: built in are %s; a file is given by its path", strings.Join(Profiles(), ", "))
		}
	}
	var p Profile
	if err == nil {
		p, err = parseProfile(text)
	}
	if err != nil {
		return Profile{}, fmt.Errorf("profile %s: %w: %w", name, err, mooring.ErrInvalid)
	}
	return p, nil
}

// parseProfile reads a profile strictly: a key that is misspelt would be a question that is never asked.
func parseProfile(text []byte) (Profile, error) {
	var p Profile
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return Profile{}, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Profile{}, errors.New("a second document: want one")
	}
	return p, p.check()
}

func (p Profile) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, name := range sorted(p.Services) {
		s := p.Services[name]
		if err := s.Ready.check(); err != nil {
			bad("services.%s.ready: %w", name, err)
		}
		for key, c := range map[string]*Command{"flush": s.Flush, "reload": s.Reload} {
			if c != nil && len(c.Exec) == 0 {
				bad("services.%s.%s: want exec, the command to run in the container", name, key)
			}
		}
		for dir, uid := range s.Writes {
			if !strings.HasPrefix(dir, "/") || uid < 0 {
				bad("services.%s.writes: %s: %d: want an absolute path in the container, and a user ID", name, dir, uid)
			}
		}
		if slices.Contains(s.After, name) {
			bad("services.%s.after: names itself", name)
		}
	}
	if p.Answer != nil && (len(p.Answer.Ports) == 0 || !strings.HasPrefix(p.Answer.Path, "/") || p.Answer.Limit < 0) {
		bad("answer: want ports, a path that begins with /, and no negative time")
	}
	return errors.Join(append(errs, p.Registry.check())...)
}

func (q *Question) check() error {
	if q == nil {
		return nil
	}
	kinds := 0
	for _, asked := range []bool{len(q.Exec) > 0, q.HTTP != nil, q.TCP != 0} {
		if asked {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New("want one of exec, http and tcp")
	case q.HTTP != nil && (!validPort(q.HTTP.Port) || !strings.HasPrefix(q.HTTP.Path, "/")):
		return errors.New("http: want a port from 1 to 65535 and a path that begins with /")
	case q.TCP != 0 && (!validPort(q.TCP) || q.Says != ""):
		return errors.New("tcp: want a port from 1 to 65535, and no says: nothing is read")
	case q.User != "" && len(q.Exec) == 0:
		return errors.New("user: belongs to exec")
	case q.Within < 0:
		return errors.New("within: want a time such as 5s")
	}
	return nil
}

func validPort(n int) bool { return n > 0 && n < 1<<16 }

func (q *Question) limit() time.Duration {
	if q.Within > 0 {
		return q.Within
	}
	return questionLimit
}
