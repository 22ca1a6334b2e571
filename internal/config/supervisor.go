package config

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/mooring-sh/mooring/internal/admin"
)

// SupervisorFile is where the supervisor's configuration is looked for: a file of its own, so that a mistake in it never touches the plugin.
const SupervisorFile = "/etc/mooring/supervisor.yaml"

// Supervisor is the whole of the supervisor's file.
type Supervisor struct {
	Stack  Stack  `mapstructure:"stack"`
	Verify Verify `mapstructure:"verify"`
	Images Images `mapstructure:"images"`
	Limits Limits `mapstructure:"limits"`
	Notify Notify `mapstructure:"notify"`
	// StateDir holds the supervisor's journal and the reports.
	StateDir string `mapstructure:"state_dir"`
	// KeepReports is how many reports are kept.
	KeepReports int `mapstructure:"keep_reports"`
	// DockerHost is where Docker's API listens.
	DockerHost string `mapstructure:"docker_host"`
	// AdminSocket is where the command mooring asks the supervisor, PluginAdminSocket where the supervisor asks the plugin.
	AdminSocket       string `mapstructure:"admin_socket"`
	PluginAdminSocket string `mapstructure:"plugin_admin_socket"`
	// LogLevel is debug, info, warn or error.
	LogLevel string `mapstructure:"log_level"`
}

// Stack says which compose project is looked after.
type Stack struct {
	// Directory is the project's. Empty: there is no stack, and the supervisor is idle.
	Directory string `mapstructure:"directory"`
	// Files are the compose files, in their order. None: those that compose finds.
	Files []string `mapstructure:"files"`
	// Project is the project's name. Empty: as compose names it.
	Project string `mapstructure:"project"`
	// Profile is a profile's name, or the path of one's file.
	Profile string `mapstructure:"profile"`
	// Entry is the service that opens the doors. Empty: as the profile or the project has it.
	Entry string `mapstructure:"entry"`
	// HoldDoors: the entry service gets the restart policy no, in the project's override file, so that dockerd does not start it before the supervisor does.
	HoldDoors bool `mapstructure:"hold_doors"`
	// MustBeMounted are directories of the host on which something has to be mounted.
	MustBeMounted []string `mapstructure:"must_be_mounted"`
}

// Verify is an account that may pull, and an image that it can pull.
type Verify struct {
	Account string `mapstructure:"account"`
	// PasswordFile is a file with the password; a relative name is looked for in systemd's credentials directory.
	PasswordFile string `mapstructure:"password_file"`
	Image        string `mapstructure:"image"`
	// CAFile is a PEM file with the authority of the certificate at the doors, and Host the name that it is for.
	CAFile string `mapstructure:"ca_file"`
	Host   string `mapstructure:"host"`
}

// Images says how the images of the stack's registry are proved.
type Images struct {
	// RehashEvery is the time from one whole run of tier 3 to the next. 0: only after a failover.
	RehashEvery time.Duration `mapstructure:"rehash_every"`
	// RehashRate is how many megabytes tier 3 reads a second. 0: as many as it can.
	RehashRate int `mapstructure:"rehash_rate"`
	// ManifestDir is where the supervisor keeps the manifest; it keeps it beside the images, too.
	ManifestDir string `mapstructure:"manifest_dir"`
}

// Limits say how long each phase of a recovery may take, and how often a service is tried.
type Limits struct {
	Fencing   time.Duration `mapstructure:"fencing"`
	Attaching time.Duration `mapstructure:"attaching"`
	Starting  time.Duration `mapstructure:"starting"`
	Images    time.Duration `mapstructure:"images"`
	Verifying time.Duration `mapstructure:"verifying"`
	Tries     int           `mapstructure:"tries"`
}

func supervisorDefaults() map[string]any {
	return map[string]any{
		"stack.directory":       "",
		"stack.files":           []string{},
		"stack.project":         "",
		"stack.profile":         "generic",
		"stack.entry":           "",
		"stack.hold_doors":      true,
		"stack.must_be_mounted": []string{},
		"verify.account":        "",
		"verify.password_file":  "registry-password",
		"verify.image":          "",
		"verify.ca_file":        "",
		"verify.host":           "",
		"limits.fencing":        "2m",
		"limits.attaching":      "5m",
		"images.rehash_every":   "168h",
		"images.rehash_rate":    100,
		"images.manifest_dir":   "/var/lib/mooring/supervisor/manifest",
		"limits.starting":       "10m",
		"limits.images":         "10m",
		"limits.verifying":      "2m",
		"limits.tries":          10,
		"notify.webhooks":       []any{},
		"notify.commands":       []any{},
		"notify.mail_to":        []string{},
		"notify.mail_from":      "",
		"notify.sendmail":       "/usr/sbin/sendmail",
		"state_dir":             "/var/lib/mooring/supervisor",
		"keep_reports":          20,
		"docker_host":           "unix:///run/docker.sock",
		"admin_socket":          admin.SupervisorSocket,
		"plugin_admin_socket":   admin.DefaultSocket,
		"log_level":             "info",
	}
}

// LoadSupervisor reads the supervisor's file as [Load] reads the plugin's.
func LoadSupervisor(file string) (Supervisor, error) {
	return load(file, supervisorDefaults(), Supervisor.check)
}

// Configured says whether there is a stack to look after.
func (s Stack) Configured() bool { return s.Directory != "" }

func (c Supervisor) check() error {
	var f faults
	f.need(c.Stack.Directory == "" || filepath.IsAbs(c.Stack.Directory), "stack.directory %q: want an absolute path", c.Stack.Directory)
	f.need(c.Stack.Directory != "" || len(c.Stack.Files) == 0, "stack.files %q: want stack.directory, too", strings.Join(c.Stack.Files, ", "))
	for _, dir := range c.Stack.MustBeMounted {
		f.need(filepath.IsAbs(dir), "stack.must_be_mounted %q: want absolute paths", dir)
	}
	f.need(c.Stack.Profile != "", "stack.profile is empty: want a profile's name, or the path of a file")
	f.need(c.Verify.Account == "" || c.Verify.Image != "", "verify.image is empty: want an image that %s can pull", c.Verify.Account)
	every := c.Images.RehashEvery
	f.need(every == 0 || every >= time.Hour && every <= 366*24*time.Hour, "images.rehash_every %s: allowed are 1h to 8784h, and 0s for never but after a failover", every)
	f.need(c.Images.RehashRate >= 0 && c.Images.RehashRate <= 100_000, "images.rehash_rate %d: allowed are 1 to 100000 megabytes a second, and 0 for no limit", c.Images.RehashRate)
	for key, dir := range map[string]string{
		"state_dir": c.StateDir, "admin_socket": c.AdminSocket, "plugin_admin_socket": c.PluginAdminSocket, "images.manifest_dir": c.Images.ManifestDir,
	} {
		f.need(filepath.IsAbs(dir), "%s %q: want an absolute path", key, dir)
	}
	for key, t := range map[string]time.Duration{
		"fencing": c.Limits.Fencing, "attaching": c.Limits.Attaching, "starting": c.Limits.Starting, "images": c.Limits.Images, "verifying": c.Limits.Verifying,
	} {
		f.need(t >= time.Second && t <= 24*time.Hour, "limits.%s %s: allowed are 1s to 24h", key, t)
	}
	f.need(c.Limits.Tries >= 1 && c.Limits.Tries <= 1000, "limits.tries %d: allowed are 1 to 1000", c.Limits.Tries)
	f.need(c.KeepReports >= 1 && c.KeepReports <= 1000, "keep_reports %d: allowed are 1 to 1000", c.KeepReports)
	f.level(c.LogLevel)
	return errors.Join(f...)
}

// Password returns the account's password as [VCenter.Password] does vCenter's.
func (v Verify) Password() (string, error) {
	return password("verify.password_file", v.PasswordFile)
}
