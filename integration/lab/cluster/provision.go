package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/qemu"
	"github.com/mooring-sh/mooring/internal/config"
)

// gateway is where the machines reach this machine's loopback, where vCenter listens; vCenterName is what its certificate is for.
const (
	gateway     = "10.0.2.2"
	vCenterName = "vcenter.lab"
)

// bootWait is how long a machine may take until it has booted: in software emulation, with others at the same time, on a machine that is busy besides.
const bootWait = 15 * time.Minute

// settle waits until the machine is up, and puts into it what it is to have.
func (c *Cluster) settle(ctx context.Context, n *node) error {
	began := time.Now()
	wait, cancel := context.WithTimeout(ctx, bootWait)
	defer cancel()
	if _, err := n.machine.AwaitBoot(wait, ""); err != nil {
		return fmt.Errorf("%w\n%s", err, lastLines(n.machine.ConsoleFile()))
	}
	files, err := c.files()
	if err != nil {
		return err
	}
	if err := n.put(ctx, append(files, c.opts.Files...)); err != nil {
		return fmt.Errorf("put files into %s: %w", n.name, err)
	}
	// The agent answers early in the boot. What state the boot ends in is not our business.
	if _, err := n.machine.Shell(wait, "systemctl is-system-running --wait || true"); err != nil {
		return fmt.Errorf("wait until %s has booted: %w", n.name, err)
	}
	c.sayf("%s has booted after %s", n.name, time.Since(began).Round(time.Second))
	for _, deb := range c.opts.Packages {
		c.sayf("installing %s on %s", filepath.Base(deb), n.name)
		if err := c.Install(ctx, n.name, deb); err != nil {
			return err
		}
	}
	return nil
}

// lastLines returns the end of a console, for an error.
func lastLines(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// files are what every machine needs to find the others and vCenter, where the plugin's package looks for it.
func (c *Cluster) files() ([]File, error) {
	ca, err := os.ReadFile(c.CAFile())
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	at, err := c.guestURL()
	if err != nil {
		return nil, err
	}
	dir := path.Dir(config.DefaultFile)
	return []File{
		{"/etc/hosts", 0o644, c.hostsFile()},
		{path.Join(dir, caFile), 0o644, string(ca)},
		{path.Join(dir, passwordFile), 0o600, c.Plugin().Password + "\n"},
		{config.DefaultFile, 0o644, configFile(at, c.Plugin().User, path.Join(dir, caFile))},
	}, nil
}

// passwordFile is what the package's unit passes to the plugin as a credential.
const passwordFile = "vcenter-password"

func configFile(url, user, ca string) string {
	return strings.Join([]string{
		"vcenter:",
		"  url: " + strconv.Quote(url),
		"  username: " + strconv.Quote(user),
		"  password_file: " + passwordFile,
		"  ca_file: " + strconv.Quote(ca),
		"",
	}, "\n")
}

// guestURL returns vCenter's address as the guests have it.
func (c *Cluster) guestURL() (string, error) {
	u, err := url.Parse(c.URL())
	if err != nil {
		return "", fmt.Errorf("read vCenter's address: %w", err)
	}
	u.Host = net.JoinHostPort(vCenterName, u.Port())
	return u.String(), nil
}

func (c *Cluster) hostsFile() string {
	lines := []string{"127.0.0.1 localhost", gateway + " " + vCenterName}
	for _, n := range c.vms {
		lines = append(lines, n.address+" "+n.name)
	}
	return strings.Join(append(lines, ""), "\n")
}

// put puts the files into the machine, with the directories that they need.
func (n *node) put(ctx context.Context, files []File) error {
	makeDirs := []string{"mkdir", "-p"}
	for _, f := range files {
		makeDirs = append(makeDirs, path.Dir(f.Path))
	}
	if err := n.run(ctx, makeDirs...); err != nil {
		return err
	}
	for _, f := range files {
		if err := n.machine.CopyIn(ctx, strings.NewReader(f.Text), f.Path, f.Mode); err != nil {
			return err
		}
	}
	return nil
}

// run runs a command that must succeed.
func (n *node) run(ctx context.Context, args ...string) error {
	var out strings.Builder
	exit, err := n.machine.Exec(ctx, qemu.Command{Args: args, Env: []string{"DEBIAN_FRONTEND=noninteractive"}, Stdout: &out, Stderr: &out})
	if err == nil && exit != 0 {
		err = fmt.Errorf("%s ended with status %d: %s", args[0], exit, strings.TrimSpace(out.String()))
	}
	return err
}

// Install installs a Debian package in the machine, as an administrator would who keeps the configuration that is there.
func (c *Cluster) Install(ctx context.Context, vm, debFile string) (err error) {
	n, err := c.node(vm)
	if err != nil {
		return err
	}
	f, err := os.Open(debFile) //nolint:gosec // named by the caller
	if err != nil {
		return fmt.Errorf("install package: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	inside := path.Join("/var/tmp", filepath.Base(debFile))
	if err := n.machine.CopyIn(ctx, f, inside, 0o644); err != nil {
		return fmt.Errorf("install %s on %s: %w", filepath.Base(debFile), vm, err)
	}
	if err := n.run(ctx, "dpkg", "--force-confold", "-i", inside); err != nil {
		return fmt.Errorf("install %s on %s: %w", filepath.Base(debFile), vm, err)
	}
	return n.run(ctx, "rm", "-f", inside)
}
