package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab"
	"github.com/mooring-sh/mooring/integration/lab/control"
	"github.com/mooring-sh/mooring/integration/lab/image"
)

const stateEnv = "MOORING_LAB_STATE"

// settings are the flags of the commands that bring a lab up.
type settings struct {
	state   string
	listen  string
	guest   string
	hosts   int
	busy    bool
	verbose bool

	// with the guest "this machine"
	plugin   string
	noPlugin bool
	noEngine bool
	socket   string
	admin    string

	// with QEMU machines
	vms      int
	memory   int
	cpus     int
	scale    float64
	debian   []string
	packages []string
}

// The flags that go with one kind of guest only.
func flagsOf(guest string) []string {
	switch guest {
	case control.QEMU:
		return []string{"vms", "memory", "cpus", "time-scale", "debian", "package"}
	case control.Local:
		return []string{"plugin", "no-plugin", "no-engine", "plugin-socket", "admin-socket"}
	}
	return nil
}

// flags gives cmd the flags. The state directory of a background lab has a default, that of a run is temporary.
func (s *settings) flags(cmd *cobra.Command, state string) {
	f := cmd.Flags()
	f.StringVar(&s.state, "state", state, "state directory")
	f.StringVar(&s.listen, "listen", "127.0.0.1:0", "host and port of the vCenter")
	f.StringVar(&s.guest, "guest", control.Local, "local: this machine is the virtual machine; qemu: virtual machines that boot and die")
	f.IntVar(&s.hosts, "hosts", 3, "hosts of the cluster")
	f.BoolVar(&s.busy, "busy", false, "a second operation on a virtual machine fails with TaskInProgress, as on a host")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "log what the lab does")
	f.StringVar(&s.plugin, "plugin", "", "local: the plugin's binary (default: mooring-plugin beside this one, or in PATH)")
	f.BoolVar(&s.noPlugin, "no-plugin", false, "local: run no plugin")
	f.BoolVar(&s.noEngine, "no-engine", false, "local: do not look for a Docker Engine")
	f.StringVar(&s.socket, "plugin-socket", lab.PluginSocket, "local: socket of the plugin for dockerd")
	f.StringVar(&s.admin, "admin-socket", lab.AdminSocket, "local: socket of the plugin for mooring")
	f.IntVar(&s.vms, "vms", 2, "qemu: virtual machines")
	f.IntVar(&s.memory, "memory", 0, "qemu: MB of each machine (default: as much as the tests take)")
	f.IntVar(&s.cpus, "cpus", 0, "qemu: processors of each machine (default: as many as the tests take)")
	f.Float64Var(&s.scale, "time-scale", 1, "qemu: how many times as fast as in vSphere HA acts")
	f.StringSliceVar(&s.debian, "debian", []string{string(image.Trixie)}, "qemu: release of Debian in the machines, one after the other; the last goes for the rest")
	f.StringArrayVar(&s.packages, "package", nil, "qemu: Debian package that is installed in every machine; may be given several times")
}

// check says what is wrong with the flags, all at once.
func (s *settings) check(cmd *cobra.Command) error {
	wrong := s.wrongValues()
	other := map[string]string{control.Local: control.QEMU, control.QEMU: control.Local}[s.guest]
	hint := ""
	if other == "" {
		wrong = append(wrong, fmt.Sprintf("--guest %q: allowed are %s and %s", s.guest, control.Local, control.QEMU))
	}
	for _, name := range flagsOf(other) {
		if cmd.Flags().Changed(name) {
			wrong = append(wrong, fmt.Sprintf("--%s goes with --guest %s only", name, other))
			hint = cmd.CommandPath() + " --guest " + other
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	err := fmt.Errorf("%s: %w", strings.Join(wrong, "; "), mooring.ErrInvalid)
	if hint != "" {
		return &mooring.HintError{Err: err, Hint: hint}
	}
	return err
}

const (
	// most is how many hosts or virtual machines a lab may have.
	most = 16
	// fewestHosts is how many vSAN's default policy takes: two hold a copy each, and a third the witness.
	fewestHosts = 3
)

// wrongValues says which flags have values that cannot be.
func (s *settings) wrongValues() []string {
	var wrong []string
	need := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	need(s.hosts >= fewestHosts && s.hosts <= most, "--hosts %d: allowed are %d to %d", s.hosts, fewestHosts, most)
	need(s.vms >= 1 && s.vms <= most, "--vms %d: allowed are 1 to %d", s.vms, most)
	need(s.scale >= 1 && s.scale <= 1000, "--time-scale %v: allowed are 1 to 1000", s.scale)
	need(s.memory == 0 || s.memory >= 512, "--memory %d: want 512 MB at least", s.memory)
	need(s.cpus >= 0 && s.cpus <= most, "--cpus %d: allowed are 1 to %d", s.cpus, most)
	_, err := s.suites()
	need(err == nil, "--debian %v", err)
	for _, file := range s.packages {
		st, err := os.Stat(file)
		need(err == nil && st.Mode().IsRegular() && filepath.Ext(file) == ".deb", "--package %s: want a Debian package, FILE.deb", file)
	}
	return wrong
}

func (s *settings) suites() ([]image.Suite, error) {
	var out []image.Suite
	for _, name := range s.debian {
		switch suite := image.Suite(name); suite {
		case image.Trixie, image.Bookworm:
			out = append(out, suite)
		default:
			return nil, fmt.Errorf("%q: allowed are %s and %s: %w", name, image.Trixie, image.Bookworm, mooring.ErrInvalid)
		}
	}
	return out, nil
}

// defaultState is where a background lab keeps its state, unless the environment names another place.
func defaultState() string {
	if dir := os.Getenv(stateEnv); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "mooring-lab")
	}
	return "/var/lib/mooring-lab"
}

// needRoot refuses ordinary users, whatever the guest: one needs loop devices and mounts, the other makes disks with root's files on them.
func needRoot() error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &mooring.HintError{
		Err:  fmt.Errorf("needs root, for loop devices, mounts and the disks of machines: %w", mooring.ErrInvalid),
		Hint: "sudo mooring-lab " + strings.Join(os.Args[1:], " "),
	}
}
