// Package config reads the plugin's configuration, /etc/mooring/mooring.yaml, and the supervisor's, /etc/mooring/supervisor.yaml, into plain structs: every key
// has a default, an unknown key is an error, and so is a value that makes no sense. It is the only importer of viper.
//
// It never stops a program: [Load] and [LoadSupervisor] return what they could make of the file beside the error, for a plugin that cannot reach vCenter
// still answers Docker.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// DefaultFile is where the configuration is looked for.
const DefaultFile = "/etc/mooring/mooring.yaml"

// ErrUnreadable is the error of a file of which nothing can be had, so that even where the ledger lies is a guess.
var ErrUnreadable = errors.New("cannot be read")

// Config is the whole file.
type Config struct {
	VCenter VCenter `mapstructure:"vcenter"`
	// VM is the BIOS UUID of the virtual machine that we run in. Empty: as the firmware tells it.
	VM string `mapstructure:"vm"`
	// Datastore is where volumes are made. Empty: the one that holds the virtual machine.
	Datastore string `mapstructure:"datastore"`
	// Group is the folder of volumes that a set of virtual machines shares.
	Group string `mapstructure:"group"`
	// StateDir holds the ledger.
	StateDir string `mapstructure:"state_dir"`
	// MountDir holds the mount points.
	MountDir string `mapstructure:"mount_dir"`
	// DockerHost is where Docker's API listens.
	DockerHost string `mapstructure:"docker_host"`
	// PluginSocket and AdminSocket are used when the process was not given its sockets by systemd.
	PluginSocket string `mapstructure:"plugin_socket"`
	AdminSocket  string `mapstructure:"admin_socket"`
	// Linger is how long a disk stays attached after its last user.
	Linger time.Duration `mapstructure:"linger"`
	// BootLinger is how long, after a boot, disks that nobody uses stay attached once Docker answers.
	BootLinger time.Duration `mapstructure:"boot_linger"`
	// Refresh is the time between two listings of the group's folder.
	Refresh time.Duration `mapstructure:"refresh"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `mapstructure:"log_level"`
}

// VCenter says how vCenter is reached.
type VCenter struct {
	URL      string `mapstructure:"url"`
	Username string `mapstructure:"username"`
	// PasswordFile is a file with the password; a relative name is looked for in systemd's credentials directory.
	PasswordFile string `mapstructure:"password_file"`
	// CAFile is a PEM file with the authority of vCenter's certificate, Thumbprint its SHA-256. One of them is enough.
	CAFile     string `mapstructure:"ca_file"`
	Thumbprint string `mapstructure:"thumbprint"`
}

func defaults() map[string]any {
	return map[string]any{
		"vcenter.url":           "",
		"vcenter.username":      "",
		"vcenter.password_file": "vcenter-password",
		"vcenter.ca_file":       "",
		"vcenter.thumbprint":    "",
		"vm":                    "",
		"datastore":             "",
		"group":                 "default",
		"state_dir":             "/var/lib/mooring",
		"mount_dir":             "/var/lib/mooring/mnt",
		"docker_host":           "unix:///run/docker.sock",
		"plugin_socket":         "/run/docker/plugins/" + mooring.DriverName + ".sock",
		"admin_socket":          admin.DefaultSocket,
		"linger":                "10s",
		"boot_linger":           "2m",
		"refresh":               "30s",
		"log_level":             "info",
	}
}

// Load reads the file and checks it. Each error names the key, its value and what is allowed, and wraps [mooring.ErrInvalid]; a
// missing file is one of them, and one that is no YAML is [ErrUnreadable]. The configuration is usable whatever the error: what could not be read has its default.
func Load(file string) (Config, error) {
	return load(file, defaults(), Config.check)
}

func load[C any](file string, defaults map[string]any, check func(C) error) (C, error) {
	v := viper.New()
	v.SetConfigType("yaml")
	for key, value := range defaults {
		v.SetDefault(key, value)
	}
	var errs []error
	if data, err := os.Open(file); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("configuration file %s does not exist", file)
		} else {
			err = fmt.Errorf("configuration file: %w: %w", ErrUnreadable, err)
		}
		errs = append(errs, err)
	} else {
		if err := v.ReadConfig(data); err != nil {
			errs = append(errs, fmt.Errorf("configuration file %s: %w: %w", file, ErrUnreadable, err))
		}
		errs = append(errs, data.Close())
	}
	c, err := decode[C](v, defaults)
	errs = append(errs, err, check(c))
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("%w: %w", err, mooring.ErrInvalid)
	}
	return c, nil
}

// decode returns the file's values. If any is unknown or of a wrong type, it says so, and those of the right type stand.
func decode[C any](v *viper.Viper, defaults map[string]any) (C, error) {
	var c C
	strict := v.Unmarshal(&c, func(d *mapstructure.DecoderConfig) { d.ErrorUnused = true })
	if strict == nil {
		return c, nil
	}
	fallback := viper.New()
	for key, value := range defaults {
		fallback.SetDefault(key, value)
	}
	if err := fallback.Unmarshal(&c); err != nil {
		return c, errors.Join(strict, err)
	}
	if err := v.Unmarshal(&c); err != nil {
		return c, errors.Join(strict, err)
	}
	return c, fmt.Errorf("configuration: %w", strict)
}

// faults collects what is wrong with a configuration.
type faults []error

func (f *faults) need(ok bool, format string, args ...any) {
	if !ok {
		*f = append(*f, fmt.Errorf("configuration: "+format, args...))
	}
}

func (f *faults) level(name string) {
	switch name {
	case "debug", "info", "warn", "error":
	default:
		f.need(false, "log_level %q: allowed are debug, info, warn and error", name)
	}
}

func (c Config) check() error {
	var f faults
	need := f.need
	need(c.VCenter.URL != "", "vcenter.url is empty: want https://HOST/sdk")
	need(c.VCenter.Username != "", "vcenter.username is empty: want an account that may attach disks")
	need(!strings.ContainsAny(c.Group, `/\`) && strings.Trim(c.Group, ". ") == c.Group && c.Group != "", "group %q: want the name of a folder", c.Group)
	for key, dir := range map[string]string{"state_dir": c.StateDir, "mount_dir": c.MountDir, "plugin_socket": c.PluginSocket, "admin_socket": c.AdminSocket} {
		need(filepath.IsAbs(dir), "%s %q: want an absolute path", key, dir)
	}
	for key, t := range map[string]time.Duration{"linger": c.Linger, "boot_linger": c.BootLinger} {
		need(t >= 0 && t <= time.Hour, "%s %s: allowed are 0s to 1h", key, t)
	}
	need(c.Refresh >= time.Second && c.Refresh <= time.Hour, "refresh %s: allowed are 1s to 1h", c.Refresh)
	f.level(c.LogLevel)
	return errors.Join(f...)
}

// Password returns the content of the password file without its last line break. A relative name is looked for in systemd's
// credentials directory, where the service's unit leaves an empty one when there is no file. The error wraps [mooring.ErrInvalid] and never shows the content.
func (v VCenter) Password() (string, error) {
	return password("vcenter.password_file", v.PasswordFile)
}

func password(key, file string) (string, error) {
	file, err := credential(key, file)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", key, err, mooring.ErrInvalid)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" { // never sent: a directory locks accounts after a few wrong ones
		return "", fmt.Errorf("%s: %s is empty: %w", key, file, mooring.ErrInvalid)
	}
	return secret, nil
}

// credential returns the absolute path of a file that a key names.
func credential(key, file string) (string, error) {
	if filepath.IsAbs(file) {
		return file, nil
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return "", fmt.Errorf("%s %q: want an absolute path, or a credential that systemd passes: %w", key, file, mooring.ErrInvalid)
	}
	return filepath.Join(dir, file), nil
}
