// Package harbor asks Harbor's database which images and tags there are: from 2.15 on Harbor keeps its tags there only, and in every version its word is the last.
//
// It asks by psql inside the database's own container, as the healthcheck of that container does, so that no password is stored anywhere: the container has it in its environment. It only reads, in a transaction
// that cannot write, and sees one moment of the database. What psql prints is parsed strictly: anything that Harbor does not write is an error, and so is an answer that was cut off.
//
// Sources: Harbor's migrations (make/migrations/postgresql) up to 2.16. Artifacts, tags and repositories are deleted for good, and an artifact's row goes before anything goes from the registry's
// storage; only projects are marked as deleted and stay. Times are in UTC: Harbor's core opens its connections with timezone=UTC.
package harbor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// Runner runs a command where the database is.
type Runner interface {
	// Run writes what the command prints to out. A command that fails is an error with what it said.
	Run(ctx context.Context, argv []string, out io.Writer) error
}

// Container is the database's container, reached by the command docker.
type Container struct {
	Name string // harbor-db, as Harbor's compose file names it
	Host string // where Docker's API listens; empty: as the command docker has it
}

// Run is [Runner]'s.
func (c Container) Run(ctx context.Context, argv []string, out io.Writer) error {
	args := []string{"exec", c.Name}
	if c.Host != "" {
		args = append([]string{"--host", c.Host}, args...)
	}
	cmd := exec.CommandContext(ctx, "docker", append(args, argv...)...)
	said := &head{}
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("docker exec %s: %w: %s", c.Name, err, said)
	}
	return nil
}

// head keeps the beginning of what a command says.
type head struct{ kept bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	const limit = 1 << 10
	h.kept.Write(p[:min(len(p), limit-h.kept.Len())])
	return len(p), nil
}

func (h *head) String() string { return strings.Join(strings.Fields(h.kept.String()), " ") }

// Database is Harbor's database. It is an [images.Tags], and an [images.Needs].
type Database struct {
	Run  Runner
	Name string // of the database; empty: registry, which is Harbor's
}

// Mark returns a text that is another one when artifacts or tags have come, gone or moved.
func (d Database) Mark(ctx context.Context) (string, error) {
	var out bytes.Buffer
	if err := d.ask(ctx, &out, markQuery); err != nil {
		return "", fmt.Errorf("ask Harbor's database for changes: %w", err)
	}
	mark, err := parseMark(out.Bytes())
	if err != nil {
		return "", fmt.Errorf("ask Harbor's database for changes: %w", err)
	}
	return mark, nil
}

// Rows returns all tags and artifacts, of one moment.
func (d Database) Rows(ctx context.Context) (*images.Rows, error) {
	p := newParser()
	if err := d.ask(ctx, p, rowsQueries()...); err != nil {
		return nil, fmt.Errorf("ask Harbor's database for its images: %w", err)
	}
	rows, err := p.rows()
	if err != nil {
		return nil, fmt.Errorf("ask Harbor's database for its images: %w", err)
	}
	return rows, nil
}

// Needs returns what these artifacts need, as far as the database knows.
func (d Database) Needs(ctx context.Context, of []registry.Digest) (map[registry.Digest][]images.Ref, error) {
	all := make(map[registry.Digest][]images.Ref)
	const some = 500 // so many digests fit into a command line
	for begin := 0; begin < len(of); begin += some {
		query, err := needsQuery(of[begin:min(begin+some, len(of))])
		if err != nil {
			return nil, err
		}
		p := newParser()
		if err := d.ask(ctx, p, query, countQuery("need", query)); err != nil {
			return nil, fmt.Errorf("ask Harbor's database for blobs: %w", err)
		}
		if err := p.needs(all); err != nil {
			return nil, fmt.Errorf("ask Harbor's database for blobs: %w", err)
		}
	}
	return all, nil
}

// script has psql find its password and its server as Harbor's healthcheck does: in the container's environment, over the loopback interface; without a password by the local socket.
const script = `if [ -n "$POSTGRES_PASSWORD" ]; then PGPASSWORD=$POSTGRES_PASSWORD PGHOST=127.0.0.1; export PGPASSWORD PGHOST; fi
PGCONNECT_TIMEOUT=10 PGUSER=${POSTGRES_USER:-postgres} PGOPTIONS="-c statement_timeout=120s -c timezone=UTC" PGCLIENTENCODING=UTF8
export PGCONNECT_TIMEOUT PGUSER PGOPTIONS PGCLIENTENCODING
exec psql "$@"`

// ask runs the queries in one transaction and writes what they print, as COPY's text format has it.
func (d Database) ask(ctx context.Context, out io.Writer, queries ...string) error {
	name := d.Name
	if name == "" {
		name = "registry"
	}
	argv := []string{
		"sh", "-c", script, "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password", "--set=ON_ERROR_STOP=1", "--dbname=" + name,
		"--command=BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
	}
	for _, q := range queries {
		argv = append(argv, "--command=COPY ("+q+") TO STDOUT")
	}
	err := d.Run.Run(ctx, append(argv, "--command=COMMIT"), out)
	if err == nil || errors.Is(err, mooring.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", err, mooring.ErrUnavailable)
}
