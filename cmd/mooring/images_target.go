package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/remote"
	"github.com/mooring-sh/mooring/supervisor/images"
	"github.com/mooring-sh/mooring/supervisor/images/harbor"
)

// registryHelp says how a registry is named and who asks it.
const registryHelp = `A registry is spoken to by https, and by http only on this machine itself. The account is that of docker login, if there is one, unless --username names
another; its password is then asked for on the terminal, or read from standard input with --password-stdin. There is no flag for the password: any user of the
machine could read it in the list of processes. Harbor lets only an administrator list all repositories: name a project (harbor.example.com/project/*) or a
repository for a robot account.`

// isDirectory reports whether people mean a directory: the name of a registry begins with a letter or a digit.
func isDirectory(target string) bool {
	return strings.HasPrefix(target, "/") || strings.HasPrefix(target, ".")
}

// splitTarget divides what people call a registry, host.example.com/team/app, into its name and what follows.
func splitTarget(target string) (name, rest string) {
	scheme, address, ok := strings.Cut(target, "://")
	if !ok {
		scheme, address = "", target
	}
	name, rest, _ = strings.Cut(address, "/")
	if ok {
		name = scheme + "://" + name
	}
	return name, strings.Trim(rest, "/")
}

// registryFlags are the flags that say who asks a registry.
type registryFlags struct {
	username, caFile string
	stdin, plain     bool
}

func (f *registryFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.username, "username", "", "`user` who asks the registry, in place of docker login's")
	flags.BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input")
	flags.StringVar(&f.caFile, "ca-file", "", "PEM `file` with authorities for the registry's certificate, beside the system's")
	flags.BoolVar(&f.plain, "plain-http", false, "allow http to another machine, with the password and all images in clear text on the network")
}

// open returns the registry.
func (f *registryFlags) open(cmd *cobra.Command, name string) (*remote.Registry, error) {
	who, err := f.credentials(cmd, name)
	if err != nil {
		return nil, err
	}
	access := remote.Access{Registry: name, Credentials: who, CAFile: f.caFile, PlainHTTP: f.plain}
	return remote.Open(access, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})))
}

func (f *registryFlags) credentials(cmd *cobra.Command, name string) (remote.Credentials, error) {
	switch {
	case f.username == "" && f.stdin:
		return remote.Credentials{}, usage(cmd, "--password-stdin wants --username, too")
	case f.username == "":
		who, err := remote.DockerCredentials(cmd.Context(), remote.DockerConfigFile(), name)
		if errors.Is(err, mooring.ErrNotFound) {
			return remote.Credentials{}, nil
		}
		return who, err
	case f.stdin:
		password, err := remote.ReadPassword(cmd.InOrStdin())
		return remote.Credentials{User: f.username, Password: password}, err
	}
	prompt := prompter{in: cmd.InOrStdin(), out: cmd.ErrOrStderr()}
	password, err := prompt.secret(cmd.Context(), "Password of "+f.username+" at "+name+": ")
	if errors.Is(err, errNoTerminal) {
		return remote.Credentials{}, usage(cmd, "the password of %s is wanted and there is no terminal to ask at: --password-stdin", f.username)
	}
	return remote.Credentials{User: f.username, Password: remote.Secret(password)}, err
}

// databaseOf says which container has Harbor's database.
type databaseOf struct{ container string }

func databaseFlag(cmd *cobra.Command) *databaseOf {
	d := &databaseOf{}
	cmd.Flags().StringVar(&d.container, "database", "", "`container` of Harbor's database (harbor-db), which has the tags: from 2.15 on the storage has none")
	return d
}

func (d *databaseOf) tags() images.Tags {
	if d.container == "" {
		return nil
	}
	return harbor.Database{Run: harbor.Container{Name: d.container}}
}

// hintStorage adds what to do to an error about a directory without a registry in it.
func hintStorage(err error) error {
	if errors.Is(err, mooring.ErrNotFound) {
		return &mooring.HintError{Err: err, Hint: "name the directory that contains docker/registry/v2"}
	}
	return err
}

// interrupted returns ctx's error if it ended, and else the error.
func interrupted(ctx context.Context, err error) error { return cmp.Or(ctx.Err(), err) }
