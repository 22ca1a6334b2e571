package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/ledger"
)

// busybox is the shell and the tools of the roots, which `make setup` unpacks.
const busybox = "../.cache/busybox"

// root is a directory tree in which a package manager installs as on a machine of its own.
type root struct {
	dir     string
	install func(file string) []string // the command line
	remove  []string
	purge   []string
	mounts  string // what is mounted there while a package manager runs; empty for nothing
}

// systemctl notes how it was called, and remembers which units are enabled and active. list-jobs is the plugin's.
const systemctl = `#!/bin/sh
echo "systemctl $*" >>/calls
verb= units=
for word in "$@"; do
	case "$word" in
	--*) ;;
	*) if [ -z "$verb" ]; then verb=$word; else units="$units $word"; fi ;;
	esac
done
for unit in $units; do
	case "$verb" in
	preset) touch "/enabled.$unit" ;;
	disable) rm -f "/enabled.$unit" ;;
	start | restart) touch "/active.$unit" ;;
	stop) rm -f "/active.$unit" ;;
	is-enabled) [ -e "/enabled.$unit" ] || exit 1 ;;
	is-active) [ -e "/active.$unit" ] || exit 3 ;;
	esac
done
`

// newRoot returns a root with a shell, a systemd that only notes what it is told, and two volumes in the ledger.
func newRoot(t *testing.T) *root {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: installs into a root of its own")
	}
	needs(t, "chattr", "unshare")
	dir, err := os.MkdirTemp("", "mooring-root-") //nolint:usetesting // its path must be short enough for that of a socket
	if err != nil {
		t.Fatal(err)
	}
	r := &root{dir: dir}
	t.Cleanup(func() {
		for _, d := range []string{"/var/lib/mooring/mnt/db", "/var/lib/mooring/mnt/web", "/srv/volumes/db"} {
			_ = exec.Command("chattr", "-i", r.path(d)).Run()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, d := range []string{"bin", "usr/bin", "dev", "proc", "run/mooring", "run/systemd/system", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/rpm", "var/lib/mooring", "tmp", "etc"} {
		if err := os.MkdirAll(r.path("/"+d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.write(t, "/var/lib/dpkg/status", "", 0o644)
	r.write(t, "/calls", "", 0o644)
	r.write(t, "/dev/null", "", 0o644)
	r.write(t, "/usr/bin/systemctl", systemctl, 0o755)
	text, err := os.ReadFile(busybox)
	if err != nil {
		t.Skipf("needs %s: make setup", busybox)
	}
	r.write(t, "/bin/busybox", string(text), 0o755)
	for applet := range strings.FieldsSeq(output(t, busybox, "--list")) {
		if applet == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", r.path("/bin/"+applet)); err != nil {
			t.Fatal(err)
		}
	}
	r.copyChattr(t)
	r.keepVolumes(t, "/var/lib/mooring")
	return r
}

func (r *root) path(p string) string { return filepath.Join(r.dir, p) }

func (r *root) write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(r.path(file), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (r *root) exists(file string) bool {
	_, err := os.Lstat(r.path(file))
	return err == nil
}

// copyChattr copies the command with the libraries that it needs; busybox has none.
func (r *root) copyChattr(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("chattr")
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile(`/\S+`).FindAllString(output(t, "ldd", program), -1)
	for _, file := range append(files, program) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := file
		if file == program {
			to = "/usr/bin/chattr"
		}
		if err := os.MkdirAll(filepath.Dir(r.path(to)), 0o755); err != nil {
			t.Fatal(err)
		}
		r.write(t, to, string(text), 0o755)
	}
}

// keepVolumes writes a ledger as the plugin does, and the mount points.
func (r *root) keepVolumes(t *testing.T, state string) {
	t.Helper()
	l, err := ledger.Open(r.path(state))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []mooring.Volume{
		{Spec: mooring.Spec{Name: "db", Size: 1 << 30}, Backing: "[R&D <1>] dockvols/default/db.vmdk", Disk: "6000c29d-4c2b-178d-8e1a-000000000001"},
		{Spec: mooring.Spec{Name: "web logs", Policy: "SW=2"}, Backing: "[vsan] dockvols/default/web logs.vmdk", Disk: "6000c29d-4c2b-178d-8e1a-000000000002"},
		{Spec: mooring.Spec{Name: "listed"}, Backing: "[vsan] dockvols/default/listed.vmdk"},
	} {
		if err := l.Put(ledger.Record{Volume: v, Own: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// mountPoint makes one as the plugin does: nobody can write to it.
func (r *root) mountPoint(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(r.path(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	output(t, "chattr", "+i", r.path(dir))
}

// run runs a package manager, and returns what it and the scripts said.
func (r *root) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	const script = `mount -t proc proc "$1/proc"; mount --bind /dev/null "$1/dev/null"; [ -z "$2" ] || mount -t tmpfs none "$1$2"; shift 2; exec "$@"`
	cmd := exec.CommandContext(t.Context(), "unshare", append([]string{"--mount", "--propagation", "private", "sh", "-ec", script, "sh", r.dir, r.mounts}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DPKG_MAINTSCRIPT_DEBUG=", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *root) mustRun(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.run(t, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// calls returns what systemctl was told since the last time, without the questions.
func (r *root) calls(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(r.path("/calls"))
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "/calls", "", 0o644)
	var told []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, " is-") {
			told = append(told, strings.TrimSpace(line))
		}
	}
	return told
}

// answers lets a plugin answer in the root that the volumes are held, until the returned function is called.
func (r *root) answers(t *testing.T, held ...mooring.Name) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", r.path("/run/mooring/admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	answer := admin.Volumes{Volumes: []admin.View{admin.NewView(mooring.Volume{Spec: mooring.Spec{Name: "idle"}})}}
	for _, name := range held {
		v := admin.NewView(mooring.Volume{Spec: mooring.Spec{Name: name}})
		v.Holders = []admin.Holder{{ID: "id", Count: 1}}
		answer.Volumes = append(answer.Volumes, v)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(answer) })} //nolint:gosec // the only client is ours
	served := make(chan struct{})
	go func() { _ = srv.Serve(l); close(served) }()
	return func() {
		t.Helper()
		if err := srv.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		<-served
	}
}

// configured puts a line of the administrator's into the configuration.
func (r *root) configured(t *testing.T, line string) {
	t.Helper()
	text, err := os.ReadFile(r.path("/etc/mooring/mooring.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "/etc/mooring/mooring.yaml", string(text)+line+"\n", 0o644)
}

func (r *root) mustHaveLine(t *testing.T, line string) {
	t.Helper()
	text, err := os.ReadFile(r.path("/etc/mooring/mooring.yaml"))
	if err != nil || !strings.HasSuffix(string(text), line+"\n") {
		t.Errorf("configuration: got %q, %v, want it kept with %q", text, err, line)
	}
}

func (r *root) mustBe(t *testing.T, version string) {
	t.Helper()
	if got, want := r.mustRun(t, "chroot", r.dir, "/usr/bin/mooring", "version"), "mooring "+version+"\n"; got != want {
		t.Errorf("installed: got %q, want %q", got, want)
	}
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n  %s\nwant\n  %s", what, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// mustRefuse wants the removal refused while volumes are held by the plugin's word, or mounted by the kernel's, with nothing changed.
func (r *root) mustRefuse(t *testing.T) {
	t.Helper()
	refuse := func(why string, names ...string) {
		t.Helper()
		out, err := r.run(t, r.remove...)
		if err == nil {
			t.Fatalf("remove while %s: it was removed\n%s", why, out)
		}
		for _, name := range append(names, "hint: stop the containers") {
			if !strings.Contains(out, name) {
				t.Errorf("remove while %s: got %s\nwant it to say %q", why, out, name)
			}
		}
		if strings.Contains(out, "idle") {
			t.Errorf("remove while %s: got %s\nwant no volume named that nobody holds", why, out)
		}
		for _, call := range r.calls(t) {
			if strings.Contains(call, "stop") || strings.Contains(call, "disable") || strings.Contains(call, "restart") {
				t.Errorf("remove while %s: %s", why, call)
			}
		}
		if !r.exists("/usr/sbin/mooring-plugin") || !r.exists("/enabled.mooring-plugin.service") {
			t.Errorf("remove while %s: the package is gone", why)
		}
	}
	stop := r.answers(t, "db", "web logs")
	refuse("volumes are held", "  db\n", "  web logs\n")
	stop()
	r.mounts = "/var/lib/mooring/mnt/db"
	if err := os.MkdirAll(r.path(r.mounts), 0o700); err != nil {
		t.Fatal(err)
	}
	refuse("a volume is mounted and no plugin answers", "  db\n")
	stop = r.answers(t)
	refuse("a volume is mounted of which the plugin knows nothing", "  db\n")
	stop()
	r.mounts = ""
}

// mustList wants the disks named, with where they are and how they are had by hand.
func mustList(t *testing.T, out string) {
	t.Helper()
	for _, want := range []string{
		"db\n    file   [R&D <1>] dockvols/default/db.vmdk\n    device /dev/disk/by-id/wwn-0x6000c29d4c2b178d8e1a000000000001\n",
		"web logs\n    file   [vsan] dockvols/default/web logs.vmdk\n    device /dev/disk/by-id/wwn-0x6000c29d4c2b178d8e1a000000000002\n",
		"mount DEVICE /mnt",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s\nwant it to say %q", out, want)
		}
	}
	if strings.Contains(out, "listed") {
		t.Errorf("got %s\nwant no disk of which only the name is known", out)
	}
}

const (
	reload  = "systemctl daemon-reload"
	restart = "systemctl restart mooring-plugin.service"
	renew   = "systemctl restart mooring-supervisor.service"
	stop    = "systemctl stop mooring-supervisor.service mooring-plugin.service mooring-plugin.socket"
)

// installAndUpgrade installs the older package, and goes to the newer one and back: sockets are never touched, so that Docker's requests wait.
func (r *root) installAndUpgrade(t *testing.T, m made, kind string) {
	t.Helper()
	out := r.mustRun(t, r.install(m.file(kind, older))...)
	r.mustBe(t, older)
	if !strings.Contains(out, "vcenter.url") {
		t.Errorf("install: got %s\nwant what to do next", out)
	}
	equal(t, "install", r.calls(t), []string{
		"systemctl preset mooring-plugin.socket mooring-plugin.service mooring-supervisor.service", reload,
		"systemctl start mooring-plugin.socket", "systemctl start mooring-plugin.service", "systemctl start mooring-supervisor.service",
	})
	r.configured(t, "# mine")
	for _, version := range []string{newer, older, older} {
		out := r.mustRun(t, r.install(m.file(kind, version))...)
		r.mustBe(t, version)
		r.mustHaveLine(t, "# mine")
		var changes []string // of Debian's helpers nothing is here: see the tests on machines
		for _, call := range r.calls(t) {
			if call != "systemctl start mooring-plugin.socket" { // it runs: nothing happens
				changes = append(changes, call)
			}
		}
		equal(t, "to "+version, changes, []string{reload, restart, renew})
		if strings.Contains(out, "vcenter.url") {
			t.Errorf("to %s: got %s\nwant no first steps", version, out)
		}
	}
	if err := os.Remove(r.path("/active.mooring-plugin.service")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.path("/enabled.mooring-plugin.service")); err != nil {
		t.Fatal(err)
	}
	r.mustRun(t, r.install(m.file(kind, newer))...)
	for _, call := range r.calls(t) {
		if strings.Contains(call, "start mooring-plugin.service") {
			t.Errorf("upgrade of a service that is disabled: %s", call)
		}
	}
	r.write(t, "/enabled.mooring-plugin.service", "", 0o644)
	r.write(t, "/active.mooring-plugin.service", "", 0o644)
}

func lifeOfDeb(t *testing.T, m made) {
	needs(t, "dpkg")
	r := newRoot(t)
	dpkg := []string{"dpkg", "--root=" + r.dir, "--force-depends", "--force-downgrade", "--force-bad-path"}
	r.install = func(file string) []string { return append(slices.Clone(dpkg), "-i", file) }
	r.remove, r.purge = append(slices.Clone(dpkg), "-r", "mooring"), append(slices.Clone(dpkg), "-P", "mooring")
	r.installAndUpgrade(t, m, "deb")
	r.mustRefuse(t)
	r.mountPoint(t, "/var/lib/mooring/mnt/web")

	out := r.mustRun(t, r.remove...)
	equal(t, "remove", r.calls(t), []string{stop, reload})
	if r.exists("/usr/bin/mooring") || !r.exists("/etc/mooring/mooring.yaml") || !r.exists("/var/lib/mooring/ledger.0") {
		t.Errorf("remove: got %s\nwant the configuration and the ledger left, and nothing else", out)
	}
	r.write(t, "/etc/mooring/vcenter-password", "secret", 0o600)
	if err := os.MkdirAll(r.path("/var/lib/mooring/supervisor/recoveries"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"journal", "shutdown", "stopped", "lock", ".journal.tmp", "recoveries/20300102T030405Z.json", "recoveries/20300102T030405Z.txt"} {
		r.write(t, "/var/lib/mooring/supervisor/"+file, "", 0o600)
	}
	r.write(t, "/etc/mooring/ca.pem", "", 0o600)
	r.write(t, "/var/lib/mooring/mnt/db/file", "mine", 0o600) // written where nothing was mounted, before there were immutable flags
	out = r.mustRun(t, r.purge...)
	mustList(t, out)
	if !strings.Contains(out, "left as it is") || !r.exists("/var/lib/mooring/mnt/db/file") {
		t.Errorf("purge: got %s\nwant what is in a mount point left, and named", out)
	}
	for _, gone := range []string{"/etc/mooring", "/var/lib/mooring/ledger.0", "/var/lib/mooring/ledger.1", "/var/lib/mooring/lock", "/var/lib/mooring/places", "/var/lib/mooring/mnt/web", "/var/lib/mooring/supervisor"} {
		if r.exists(gone) {
			t.Errorf("purge: %s is still there\n%s", gone, out)
		}
	}
}

// rpm knows no purge: an erase leaves the ledger and what was changed, and says so. Here the directories are elsewhere, too.
func lifeOfRPM(t *testing.T, m made) {
	needs(t, "rpm")
	r := newRoot(t)
	rpm := []string{"rpm", "--root=" + r.dir, "--dbpath=/var/lib/rpm"}
	r.install = func(file string) []string {
		return append(slices.Clone(rpm), "-U", "--nodeps", "--oldpackage", "--replacepkgs", file)
	}
	r.remove = append(slices.Clone(rpm), "-e", "mooring")
	r.installAndUpgrade(t, m, "rpm")
	// It fails, for the configuration was changed; what else it says is a mistake of the package.
	if out, _ := r.run(t, append(slices.Clone(rpm), "-V", "--nodeps", "mooring")...); strings.TrimSpace(out) != "S.5....T.  c /etc/mooring/mooring.yaml" {
		t.Errorf("verify: got %q, want nothing changed but the configuration", out)
	}
	r.mustRefuse(t)

	text, err := os.ReadFile(r.path("/etc/mooring/mooring.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("mount_dir: /var/lib/mooring/mnt"), []byte(`mount_dir: "/srv/volumes" # a disk of its own`), 1)
	text = bytes.Replace(text, []byte("state_dir: /var/lib/mooring\n"), []byte("state_dir: /srv/state\n"), 1)
	r.write(t, "/etc/mooring/mooring.yaml", string(text), 0o644)
	for _, dir := range []string{"/srv", "/srv/state"} {
		if err := os.Mkdir(r.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"ledger.0", "ledger.1"} {
		if err := os.Rename(r.path("/var/lib/mooring/"+file), r.path("/srv/state/"+file)); err != nil {
			t.Fatal(err)
		}
	}
	r.mountPoint(t, "/srv/volumes/db")
	out := r.mustRun(t, r.remove...)
	mustList(t, out)
	equal(t, "erase", r.calls(t), []string{
		stop, "systemctl --no-reload disable mooring-supervisor.service mooring-plugin.service mooring-plugin.socket", reload,
	})
	if r.exists("/srv/volumes") || r.exists("/usr/bin/mooring") || !r.exists("/srv/state/ledger.0") || !r.exists("/etc/mooring/mooring.yaml.rpmsave") {
		t.Errorf("erase: got %s\nwant the mount points gone, and the ledger and the changed configuration left", out)
	}
	if !strings.Contains(out, "rm -r") {
		t.Errorf("erase: got %s\nwant it to say how to remove what is left", out)
	}
}
