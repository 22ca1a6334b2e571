// Command packaging makes the deb and the rpm of Mooring, for amd64 and arm64, from the one description in nfpm.yaml.
//
// It promises that two builds of one commit have the same bytes, wherever and whenever they are made: times come from the commit (or
// SOURCE_DATE_EPOCH), no path of the building machine is written down, and everything is sorted. It needs Go and git, and writes
// nothing but the packages.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "packaging: %v\n", err)
		os.Exit(1)
	}
}

// run makes the packages that args ask for and prints their paths.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("packaging", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("out", "dist", "directory for the packages")
	source := flags.String("source", ".", "the project's root")
	version := flags.String("version", "", "version of the packages (default: as git tells)")
	archs := flags.String("arch", "amd64,arm64", "architectures")
	kinds := flags.String("kind", "deb,rpm", "kinds of package")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b, err := newBuild(ctx, *source, *version)
	if err != nil {
		return err
	}
	b.log = stderr
	if b.stage, err = os.MkdirTemp("", "mooring-packaging-*"); err != nil {
		return fmt.Errorf("make directory to lay out in: %w", err)
	}
	defer func() { _ = os.RemoveAll(b.stage) }()
	if b.out, err = filepath.Abs(*out); err != nil {
		return fmt.Errorf("find the output's directory: %w", err)
	}
	made, err := b.packages(ctx, strings.Split(*archs, ","), strings.Split(*kinds, ","))
	for _, file := range made {
		_, werr := fmt.Fprintln(stdout, file)
		err = errors.Join(err, werr)
	}
	return err
}

// build is one making of packages.
type build struct {
	source  string // the project's root
	out     string
	stage   string // where files are laid out as nfpm.yaml names them
	version string
	when    time.Time
	log     io.Writer // what the tools say
}

// newBuild asks git for what is not given.
func newBuild(ctx context.Context, source, version string) (*build, error) {
	b := &build{source: source, version: version}
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds: %w", text, err)
		}
		b.when = time.Unix(seconds, 0).UTC()
	}
	if b.version != "" && !b.when.IsZero() {
		return b, nil
	}
	c, err := look(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("ask git (without it: -version, and SOURCE_DATE_EPOCH): %w", err)
	}
	b.version = cmp.Or(b.version, c.version())
	if b.when.IsZero() {
		b.when = c.when
	}
	return b, nil
}

// packages makes each kind of package for each architecture, and returns their paths.
func (b *build) packages(ctx context.Context, archs, kinds []string) ([]string, error) {
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return nil, fmt.Errorf("make directory for packages: %w", err)
	}
	if err := b.layOut(ctx); err != nil {
		return nil, err
	}
	nfpm, err := b.nfpm(ctx)
	if err != nil {
		return nil, err
	}
	var made []string
	for _, arch := range archs {
		if arch != runtime.GOARCH {
			if err := b.compile(ctx, arch); err != nil {
				return made, err
			}
		}
		for _, kind := range kinds {
			file := filepath.Join(b.out, name(kind, b.version, arch))
			cmd := exec.CommandContext(ctx, nfpm, "package", "--config", "nfpm.yaml", "--packager", kind, "--target", file)
			cmd.Dir = b.stage
			cmd.Env = append(os.Environ(), "ARCH="+arch, "VERSION="+b.version, "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.when.Unix(), 10))
			if out, err := cmd.CombinedOutput(); err != nil {
				return made, fmt.Errorf("make %s: %w: %s", file, err, out)
			}
			made = append(made, file)
		}
	}
	return made, nil
}

// name returns what the distributions call the file of such a package.
func name(kind, version, arch string) string {
	if kind == "rpm" {
		return "mooring-" + version + "-1." + map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch] + ".rpm"
	}
	return "mooring_" + version + "_" + arch + "." + kind
}

// compile builds the two commands for arch.
func (b *build) compile(ctx context.Context, arch string) error {
	cmd := b.goCommand(ctx, "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X github.com/mooring-sh/mooring/cmd/internal/version.version="+b.version,
		"-o", filepath.Join(b.stage, "bin-"+arch)+"/", "./cmd/mooring", "./cmd/mooring-plugin", "./cmd/mooring-supervisor")
	cmd.Env = append(cmd.Env, "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0")
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build for %s: %w", arch, err)
	}
	return nil
}

// goCommand returns a call of the go command in the project's root, untouched by the caller's flags.
func (b *build) goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off")
	return cmd
}

// nfpm returns the path of the tool that packs, as it is pinned in tools.mod.
func (b *build) nfpm(ctx context.Context) (string, error) {
	cmd := b.goCommand(ctx, "tool", "-n", "-modfile=tools.mod", "nfpm")
	cmd.Stderr = b.log
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build nfpm: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
