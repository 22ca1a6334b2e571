package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/internal/config"
)

// settings returns the settings of a unit, each with its values in their order.
func settings(t *testing.T, unit string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			found[key] = append(found[key], value)
		}
	}
	return found
}

// In a mount namespace of its own the plugin would mount volumes that Docker does not see, and the supervisor would keep disks from being let go. These are the settings that give a service one, as
// systemd's exec_needs_mount_namespace has them up to version 258.
func TestNoMountNamespace(t *testing.T) {
	for _, key := range []string{
		"PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateNetwork", "NetworkNamespacePath", "PrivateIPC", "IPCNamespacePath", "PrivatePIDs", "PrivateBPF",
		"ProtectSystem", "ProtectHome", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset",
		"ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem",
		"RootDirectory", "RootImage", "MountImages", "ExtensionImages", "ExtensionDirectories", "MountFlags", "MountAPIVFS", "BindLogSockets",
		"DynamicUser", "LogNamespace", "JoinsNamespaceOf", "User", "PrivateUsers",
	} {
		for _, name := range []string{"mooring-plugin.service", "mooring-supervisor.service"} {
			if values, set := settings(t, name)[key]; set {
				t.Errorf("%s sets %s=%s", name, key, values)
			}
		}
	}
}

// Neither Docker nor vCenter may take the driver down, or keep it from starting.
func TestServiceDependsOnNobody(t *testing.T) {
	unit := settings(t, "mooring-plugin.service")
	for _, key := range []string{"Requires", "Requisite", "BindsTo", "PartOf", "Conflicts", "After"} {
		if values := strings.Join(unit[key], " "); strings.Contains(values, "docker") || strings.Contains(values, "network-online") {
			t.Errorf("mooring-plugin.service has %s=%s", key, values)
		}
	}
	for key, want := range map[string]string{
		"Type": "notify", "Before": "docker.service", "WantedBy": "multi-user.target", "Restart": "always", "StartLimitIntervalSec": "0", "KillMode": "process",
	} {
		if !slices.Contains(unit[key], want) {
			t.Errorf("mooring-plugin.service: got %s=%s, want %s", key, unit[key], want)
		}
	}
}

// Neither Docker nor the plugin may take the supervisor down, or keep it from starting; it starts after both and ends before them.
func TestSupervisorDependsOnNobody(t *testing.T) {
	unit := settings(t, "mooring-supervisor.service")
	for _, key := range []string{"Requires", "Requisite", "BindsTo", "PartOf", "Conflicts", "Before"} {
		if values, set := unit[key]; set {
			t.Errorf("mooring-supervisor.service has %s=%s", key, values)
		}
	}
	for key, want := range map[string]string{
		"Type": "notify", "After": "docker.service mooring-plugin.service", "Wants": "docker.service", "WantedBy": "multi-user.target", "Restart": "always",
		"StartLimitIntervalSec": "0", "RuntimeDirectoryPreserve": "yes",
	} {
		if !slices.Contains(unit[key], want) {
			t.Errorf("mooring-supervisor.service: got %s=%s, want %s", key, unit[key], want)
		}
	}
}

// What systemd listens at is what the command and dockerd look for.
func TestSocketsAreThoseOfTheConfiguration(t *testing.T) {
	defaults, err := config.Load(filepath.Join(t.TempDir(), "none.yaml"))
	if err == nil {
		t.Fatal("a missing configuration: got no error")
	}
	unit := settings(t, "mooring-plugin.socket")
	if want := []string{defaults.PluginSocket, defaults.AdminSocket}; !slices.Equal(unit["ListenStream"], want) {
		t.Errorf("mooring-plugin.socket: got %s, want %s", unit["ListenStream"], want)
	}
	for key, want := range map[string]string{"SocketMode": "0600", "DirectoryMode": "0700", "TriggerLimitIntervalSec": "0", "RemoveOnStop": "yes"} {
		if !slices.Equal(unit[key], []string{want}) {
			t.Errorf("mooring-plugin.socket: got %s=%s, want %s", key, unit[key], want)
		}
	}
}

// The exposure is at most that, and the manual gives the reason for every point of it that stays.
func TestExposure(t *testing.T) {
	needs(t, "systemd-analyze")
	t.Run("plugin", func(t *testing.T) { exposure(t, "mooring-plugin", "47") })
	t.Run("supervisor", func(t *testing.T) { exposure(t, "mooring-supervisor", "44") })
}

func exposure(t *testing.T, name, most string) {
	t.Helper()
	analyze := func(more ...string) ([]byte, error) {
		return exec.CommandContext(t.Context(), "systemd-analyze", append(append([]string{"security", "--offline=true", "--no-pager"}, more...), "./"+name+".service")...).Output()
	}
	if out, err := analyze("--threshold=" + most); err != nil {
		t.Errorf("exposure above %s tenths: %v\n%s", most, err, out)
	}
	out, err := analyze("--json=short")
	if err != nil {
		t.Fatal(err)
	}
	var points []struct {
		Set            *bool
		Name, Exposure string
	}
	if err := json.Unmarshal(out, &points); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/man/" + name + ".8")
	if err != nil {
		t.Fatal(err)
	}
	_, reasons, _ := strings.Cut(string(page), ".SH SECURITY")
	reasons, _, _ = strings.Cut(reasons, ".SH FILES")
	// AF_(INET|INET6), ~CAP_(DAC_*|FOWNER|IPC_OWNER), RootDirectory=/RootImage=: the first word that says what it is about.
	word := regexp.MustCompile(`CAP_\(?[A-Z_]*|AF_\(?[A-Z]+|@[a-z-]+|[A-Z][A-Za-z]+=$|^[A-Z][A-Za-z]+`)
	seen := 0
	for _, p := range points {
		if p.Set == nil || *p.Set || p.Exposure == "" {
			continue
		}
		seen++
		_, subject, restricts := strings.Cut(p.Name, "=~")
		if !restricts {
			subject, _, _ = strings.Cut(p.Name, "=")
		}
		subject = strings.ReplaceAll(word.FindString(subject), "(", "")
		if subject == "" || !strings.Contains(reasons, subject) {
			t.Errorf("%s(8) does not say why %s (%s) stays", name, p.Name, subject)
		}
	}
	if seen < 10 {
		t.Errorf("got %d points of exposure, want those that a service which mounts must have:\n%s", seen, out)
	}
}

// verify runs systemd-analyze on the units in a root that has them beside the machine's own, and returns what it says.
func verify(t *testing.T, root string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--root="+root, "mooring-plugin.service", "mooring-plugin.socket", "mooring-supervisor.service").CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	return string(out)
}

// standard copies systemd's own units into the root, for ours name some of them.
func standard(t *testing.T, root string) {
	t.Helper()
	for _, dir := range []string{"/usr/lib/systemd/system", "/lib/systemd/system"} {
		units, err := filepath.Glob(dir + "/*.*")
		if err != nil {
			t.Fatal(err)
		}
		for _, unit := range units {
			if info, err := os.Stat(unit); err != nil || !info.Mode().IsRegular() {
				continue
			}
			text, err := os.ReadFile(unit)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/system", filepath.Base(unit)), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// lintUnits is part of TestPackages: the units as they come out of the package.
func lintUnits(t *testing.T, deb string) {
	needs(t, "systemd-analyze")
	root := unpack(t, deb)
	unit := filepath.Join(root, "usr/lib/systemd/system/mooring-plugin.service")
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	standard(t, root)
	if err := os.WriteFile(unit, text, 0o600); err != nil { // this machine may have one
		t.Fatal(err)
	}
	if said := verify(t, root); said != "" {
		t.Errorf("systemd-analyze verify: %s", said)
	}
	if err := os.WriteFile(unit, []byte(strings.Replace(string(text), "[Service]\n", "[Service]\nRestrat=always\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := verify(t, root); !strings.Contains(said, "Restrat") {
		t.Errorf("systemd-analyze verify of a wrong setting: got %q, want it named", said)
	}
}

// A volume whose formatting was cut off is looked at through calls that few programs make: each that the plugin makes itself passes the filter.
func TestFilterPassesWhatThePluginCalls(t *testing.T) {
	group := func(name string) map[string]bool {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "syscall-filter", "--no-pager", name).CombinedOutput()
		if err != nil {
			t.Fatalf("systemd-analyze: %v: %s", err, out)
		}
		return groupsIn(t, strings.TrimPrefix(string(out), name))
	}
	known, pass := group("@known"), group("@system-service")
	for name := range strings.FieldsSeq(settings(t, "mooring-plugin.service")["SystemCallFilter"][0]) {
		pass[name] = true
	}
	files, err := filepath.Glob("../internal/guest/*.go")
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`unix\.(?:SYS_)?(Fsconfig|[A-Za-z0-9_]+)`).FindAllStringSubmatch(string(text), -1) {
			name := strings.ToLower(m[1])
			if name == "unmount" {
				name = "umount2"
			}
			called[name] = true
			if known[name] && !pass[name] {
				t.Errorf("%s calls %s, which SystemCallFilter= refuses", filepath.Base(file), name)
			}
		}
	}
	for _, name := range []string{"mount", "umount2", "fsopen", "fsconfig", "fsmount"} {
		if !called[name] || !known[name] {
			t.Errorf("no call of %s was found: this test looks at the wrong files", name)
		}
	}
}

// groupsIn returns the calls of a group and of the groups that it names, as systemd-analyze lists them.
func groupsIn(t *testing.T, listing string) map[string]bool {
	t.Helper()
	calls := make(map[string]bool)
	for word := range strings.FieldsSeq(listing) {
		if strings.HasPrefix(word, "@") && word != "@system-service" {
			out, err := exec.CommandContext(t.Context(), "systemd-analyze", "syscall-filter", "--no-pager", word).CombinedOutput()
			if err != nil {
				t.Fatalf("systemd-analyze: %v: %s", err, out)
			}
			for name := range groupsIn(t, strings.TrimPrefix(string(out), word)) {
				calls[name] = true
			}
			continue
		}
		calls[word] = true
	}
	return calls
}
