// Package harborlike is a stack built like Harbor's: the same service and container names, users, capabilities, mounts, order of start and way of logging, and
// so the same troubles after a machine has died. The registry, PostgreSQL, redis, nginx and rsyslog are Debian's; Harbor's own programs are played by
// command roles.
//
// It promises that the images are whole or absent in the cache, that they come from packages that Debian has signed, and that no registry and no Docker
// Engine is needed to make them. [Write] puts the compose project into a directory; what it says of volumes is their names only, so that they may be
// Mooring's or Docker's own.
//
// It never installs anything on this machine.
package harborlike

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/cache"
)

// archiveFile is what the cache keeps.
const archiveFile = "images.tar"

// rolesPackage plays the programs that are Harbor's own.
const rolesPackage = "github.com/mooring-sh/mooring/integration/harborlike/roles"

// Options says where the images are kept and what they are made from.
type Options struct {
	Cache  string    // directory; empty means [cache.Default]
	Mirror string    // of Debian; empty means $MOORING_LAB_MIRROR, else deb.debian.org
	Say    io.Writer // is told how a build goes on, line by line; nil: nobody
}

// Get returns the file with all images of the stack, for `docker load`, from the cache if it was made before. Making it takes apt, dpkg-deb and the network.
// It must be called in Mooring's source: command roles is compiled first.
func Get(ctx context.Context, o Options) (string, error) {
	if o.Say == nil {
		o.Say = io.Discard
	}
	if o.Cache == "" {
		o.Cache = cache.Default()
	}
	if o.Mirror == "" {
		o.Mirror = os.Getenv("MOORING_LAB_MIRROR")
	}
	if o.Mirror == "" {
		o.Mirror = "http://deb.debian.org/debian"
	}
	dir, err := filepath.Abs(o.Cache)
	if err != nil {
		return "", fmt.Errorf("get the stack's images: %w", err)
	}
	program, err := compileRoles(ctx)
	if err != nil {
		return "", err
	}
	own, err := ownFiles(program)
	if err != nil {
		return "", err
	}
	key, err := recipeKey(own)
	if err != nil {
		return "", err
	}
	c := cache.Cache{Dir: dir, Say: o.Say}
	home, err := c.Get(ctx, "harborlike", key, func(ctx context.Context, scratch string) error {
		b := builder{mirror: o.Mirror, dir: scratch, say: o.Say, began: time.Now()}
		return b.build(ctx, own)
	})
	if err != nil {
		return "", fmt.Errorf("get the stack's images: %w", err)
	}
	return filepath.Join(home, archiveFile), nil
}

// compileRoles returns the program. The same source gives the same bytes.
func compileRoles(ctx context.Context) ([]byte, error) {
	dir, err := os.MkdirTemp("", "harborlike-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // at worst it lies there
	program := filepath.Join(dir, "roles")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, rolesPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile command roles (in Mooring's source): %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.ReadFile(program)
}

// recipeKey tells apart what different recipes make.
func recipeKey(own tree) (string, error) {
	recipe, err := json.Marshal([]any{version, packages(), picks(), images()})
	if err != nil {
		return "", fmt.Errorf("encode the recipe: %w", err)
	}
	sum := sha256.New()
	sum.Write(recipe)
	for _, name := range own.names() {
		m := own[name]
		sum.Write(fmt.Appendln(nil, name, m.mode, m.uid, m.link, len(m.content)))
		sum.Write(m.content)
	}
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}

// builder makes the archive in a directory that is empty to begin with.
type builder struct {
	mirror string
	dir    string
	say    io.Writer
	began  time.Time
}

// build makes two layers that all images share: Debian's files, and the stack's own.
func (b builder) build(ctx context.Context, own tree) error {
	b.step("downloading Debian's packages from %s", b.mirror)
	debs, err := b.download(ctx)
	if err != nil {
		return err
	}
	b.step("unpacking what is needed of them")
	all := make(tree)
	for _, deb := range debs {
		if err := b.unpack(ctx, deb, all); err != nil {
			return err
		}
	}
	debian, err := all.pick(picks())
	if err != nil {
		return err
	}
	b.step("writing the images")
	if err := writeImages(filepath.Join(b.dir, archiveFile), images(), debian, own); err != nil {
		return err
	}
	if err := os.RemoveAll(b.aptDir()); err != nil {
		return err
	}
	b.step("done")
	return nil
}

// step says what begins now. Nobody to hear it is no reason not to build.
func (b builder) step(format string, args ...any) {
	_, _ = fmt.Fprintf(b.say, "harborlike %4.0f s: %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}
