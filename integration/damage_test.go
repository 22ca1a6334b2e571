package integration_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mooring-sh/mooring"
)

// mkfsStage stands in for mkfs: it writes part of the filesystem to the disk and then waits for its death. It is chosen by the UUID that
// the filesystem is to have, and everything else goes to the real mkfs.
const mkfsStage = `#!/bin/sh
for a; do
	case $before in -U) uuid=$a ;; esac
	case $a in uuid=*) uuid=${a#uuid=} ;; esac
	before=$a dev=$a
done
real=/sbin/${0##*/}
echo "$uuid" >>STAGE/calls
[ -e "STAGE/stop.$uuid" ] || exec "$real" "$@"
truncate -s "$(blockdev --getsize64 "$dev")" "STAGE/whole.$uuid"
"$real" ${*%"$dev"} "STAGE/whole.$uuid" || exit 1
copy() { dd if="STAGE/whole.$uuid" of="$dev" conv=notrunc,fsync,sparse bs=64k "$@" 2>/dev/null; }
case $(cat "STAGE/stop.$uuid") in
nothing) ;;
head) copy count=1 ;;
tail) copy skip=1 seek=1 ;;
all) copy ;;
esac
touch "STAGE/reached.$uuid"
exec sleep 100000
`

// stage is the directory of the stand-in for mkfs.
type stage struct{ dir string }

// newStage puts the stand-in first in the PATH of all that is started from now on.
func newStage(t *testing.T) stage {
	t.Helper()
	s := stage{t.TempDir()}
	script := strings.ReplaceAll(mkfsStage, "STAGE", s.dir)
	for _, name := range []string{"mkfs.ext4", "mkfs.xfs"} {
		write(t, filepath.Join(s.dir, name), []byte(script), 0o755)
	}
	t.Setenv("PATH", s.dir+":"+os.Getenv("PATH"))
	return s
}

func (s stage) reached(id mooring.FSUUID) bool {
	_, err := os.Stat(filepath.Join(s.dir, "reached."+string(id)))
	return err == nil
}

// calls returns how often mkfs was to make the filesystem.
func (s stage) calls(t *testing.T, id mooring.FSUUID) int {
	t.Helper()
	return strings.Count(string(read(t, filepath.Join(s.dir, "calls"))), string(id))
}

// Whatever is damaged: the user is told, nothing is changed on a disk to get on, and dockerd keeps its labels and references.
func TestDamage(t *testing.T) {
	s := newStage(t)
	r := newRig(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *rig)
	}{
		{"G3 killed mkfs is finished once", s.killedMkfs},
		{"G3 lost sidecar never formats", lostSidecar},
		{"G3 foreign content stays", foreignContent},
		{"G3 adopted disk is never formatted", adoptedDisk},
		{"G3 mark without data is refused", markWithoutData},
		{"G1 missing disk is said so", missingDisk},
		{"G3 two disks of one UUID are not mixed up", twins},
		{"G11 empty name changes nothing", emptyName},
		{"G10 one bad generation loses nothing", oneBadGeneration},
		{"G10 lost ledger makes dockerd wait", lostLedger},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer r.clear(t)
			c.test(t, r)
		})
	}
}

// killedMkfs kills mkfs and the plugin at any point of formatting. After that the volume is formatted to its end, once, and never again.
func (s stage) killedMkfs(t *testing.T, r *rig) {
	ids := make(map[string]mooring.FSUUID)
	for _, name := range []string{"ext4-nothing", "ext4-head", "ext4-tail", "ext4-all", "xfs-head", "xfs-all"} {
		fstype, point, _ := strings.Cut(name, "-")
		docker(t, "volume", "create", "--driver=vmdk", "-o", "size=300mb", "-o", "fstype="+fstype, name)
		newContainer(t, name, name)
		ids[name] = r.sidecar(t, name).FSUUID
		write(t, filepath.Join(s.dir, "stop."+string(ids[name])), []byte(point), 0o600)
	}
	var starts sync.WaitGroup
	for name := range ids {
		starts.Go(func() { _, _ = tryDocker(t, "start", name) })
	}
	for name, id := range ids {
		until(t, "mkfs of "+name+" has come to its point", func() bool { return s.reached(id) })
	}
	r.killGroup(t)
	for _, id := range ids {
		remove(t, filepath.Join(s.dir, "stop."+string(id)))
	}
	starts.Wait()
	r.ready(t)
	for name := range ids {
		if got := r.sidecar(t, name).Format; got != mooring.Formatting {
			t.Errorf("%s: after the kill the sidecar says %q, want %q", name, got, mooring.Formatting)
		}
	}
	names := slices.Collect(maps.Keys(ids))
	docker(t, append([]string{"start"}, names...)...)
	for _, name := range names {
		docker(t, "exec", name, "touch", "/d/kept")
	}
	docker(t, append([]string{"restart"}, names...)...)
	for name, id := range ids {
		docker(t, "exec", name, "test", "-e", "/d/kept")
		if got := s.calls(t, id); got != 2 {
			t.Errorf("%s: mkfs ran %d times, want the one that was killed and one more", name, got)
		}
		if got := r.sidecar(t, name).Format; got != mooring.FormatDone {
			t.Errorf("%s: the sidecar says %q, want %q", name, got, mooring.FormatDone)
		}
	}
}

// spoilt is one way to lose a sidecar.
type spoilt struct {
	name  string
	spoil func(t *testing.T, file, other string)
}

func spoiltSidecars() []spoilt {
	return []spoilt{
		{"removed", func(t *testing.T, file, _ string) { t.Helper(); remove(t, file) }},
		{"foreign", func(t *testing.T, file, other string) { t.Helper(); write(t, file, read(t, other), 0o600) }},
		{"torn", func(t *testing.T, file, _ string) { t.Helper(); truncate(t, file) }},
	}
}

// lostSidecar shows that a sidecar which is lost, or cannot be believed, costs nothing but the right to format: a volume with a filesystem works, one without is
// refused and left as it is. That must hold on the host that knows the volume and on one that has only the datastore to go by.
func lostSidecar(t *testing.T, r *rig) {
	newVolume(t, "other")
	var full, empty []string
	for _, s := range spoiltSidecars() {
		full, empty = append(full, "full-"+s.name), append(empty, "empty-"+s.name)
	}
	sums := make(map[string][32]byte)
	for i := range full {
		newVolume(t, full[i])
		newVolume(t, empty[i])
		sums[empty[i]] = r.sum(t, empty[i])
	}
	docker(t, append([]string{"start"}, full...)...)
	for _, name := range full {
		docker(t, "exec", name, "touch", "/d/kept")
	}
	docker(t, append([]string{"stop"}, full...)...)
	for i, s := range spoiltSidecars() {
		r.detached(t, mooring.Name(full[i]))
		s.spoil(t, r.file(t, full[i]+".json"), r.file(t, "other.json"))
		s.spoil(t, r.file(t, empty[i]+".json"), r.file(t, "other.json"))
	}
	for _, who := range []string{"host that knows them", "host that does not"} {
		t.Run(who, func(t *testing.T) {
			for i := range full {
				docker(t, "start", full[i])
				docker(t, "exec", full[i], "test", "-e", "/d/kept")
				fails(t, "no sidecar", "start", empty[i])
				if got := inspect(t, empty[i], "{{.Labels.keep}}"); got != "me" {
					t.Errorf("%s: got label %q, want me", empty[i], got)
				}
				fails(t, "in use", "volume", "rm", empty[i])
			}
			docker(t, append([]string{"stop"}, full...)...)
			for i := range full {
				r.detached(t, mooring.Name(full[i]))
				r.detached(t, mooring.Name(empty[i]))
				if r.sum(t, empty[i]) != sums[empty[i]] {
					t.Errorf("%s: the disk of a volume that was refused has changed", empty[i])
				}
			}
		})
		r.stopPlugin(t)
		for _, f := range r.ledgers(t) {
			remove(t, f)
		}
		r.startPlugin(t)
	}
	docker(t, "start", full[0])
	if got := inspect(t, full[0], "{{.Status.sidecar}}"); got != "missing" {
		t.Errorf("inspect: got sidecar %q, want missing", got)
	}
	docker(t, "rm", empty[0])
	docker(t, "volume", "rm", empty[0]) // the cure that the refusal names
	docker(t, "run", "--rm", "-v", empty[0]+":/d", "--volume-driver=vmdk", image, "touch", "/d/new")
}

// clear removes all containers and volumes. A volume may be refused for a moment after a mount that failed: Docker's API is asked first who has it.
func (r *rig) clear(t *testing.T) {
	t.Helper()
	if list := strings.Fields(docker(t, "ps", "-aq")); len(list) > 0 {
		docker(t, append([]string{"rm", "-f"}, list...)...)
	}
	until(t, "all volumes are removed", func() bool {
		list := strings.Fields(docker(t, "volume", "ls", "-q"))
		_, err := tryDocker(t, append([]string{"volume", "rm"}, list...)...)
		return err == nil || len(list) == 0
	})
}

// newVolume makes a small volume with a label, and a container of its name that has it.
func newVolume(t *testing.T, name string, options ...string) {
	t.Helper()
	args := []string{"volume", "create", "--driver=vmdk", "--label", "keep=me", "-o", "size=32mb"}
	docker(t, append(append(args, options...), name)...)
	newContainer(t, name, name)
}

// newContainer makes a container that has the volumes at /d, /d1, and so on. It ends at once when it is told to.
func newContainer(t *testing.T, name string, volumes ...string) {
	t.Helper()
	args := []string{"create", "--stop-signal=KILL", "--name", name}
	for i, v := range volumes {
		args = append(args, "--volume-driver=vmdk", "-v", v+":"+strings.TrimSuffix(fmt.Sprintf("/d%d", i), "0")+":nocopy")
	}
	docker(t, append(args, image, "sleep", "100000")...)
}

// fails runs docker and fails unless docker does, saying what is wanted. It returns what docker said.
func fails(t *testing.T, want string, args ...string) string {
	t.Helper()
	out, err := tryDocker(t, args...)
	if err == nil || !strings.Contains(out, want) {
		t.Errorf("docker %s: got %v, want an error with %q\n%s", strings.Join(args, " "), err, want, out)
	}
	return out
}

func inspect(t *testing.T, name, format string) string {
	t.Helper()
	return docker(t, "volume", "inspect", "-f", format, name)
}

// file returns where a file of the group's folder is on this machine.
func (r *rig) file(t *testing.T, name string) string {
	t.Helper()
	var found string
	err := filepath.WalkDir(filepath.Join(r.Dir(), "datastores"), func(path string, _ fs.DirEntry, err error) error {
		if filepath.Base(path) == name && filepath.Base(filepath.Dir(path)) == "default" {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("find %s on the datastore: %q, %v", name, found, err)
	}
	return found
}

// extent returns the file with the bytes of the volume's disk.
func (r *rig) extent(t *testing.T, name string) string {
	t.Helper()
	return r.file(t, name+"-flat.vmdk")
}

// sum returns the SHA-256 of the volume's disk.
func (r *rig) sum(t *testing.T, name string) [32]byte {
	t.Helper()
	return sha256.Sum256(read(t, r.extent(t, name)))
}

// sidecar returns what lies beside the volume's disk.
func (r *rig) sidecar(t *testing.T, name string) mooring.Volume {
	t.Helper()
	var s struct{ Volume mooring.Volume }
	if err := json.Unmarshal(read(t, r.file(t, name+".json")), &s); err != nil {
		t.Fatal(err)
	}
	return s.Volume
}

// killGroup kills the plugin and what it runs, as systemd does; the service manager starts it again.
func (r *rig) killGroup(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(-r.unit.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.killPlugin(t) // waits for its end
}

func (r *rig) stopPlugin(t *testing.T) {
	t.Helper()
	if err := r.unit.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) startPlugin(t *testing.T) {
	t.Helper()
	if err := r.unit.Start(); err != nil {
		t.Fatal(err)
	}
	r.ready(t)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, file string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, content, mode); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

// truncate leaves half of the file.
func truncate(t *testing.T, file string) {
	t.Helper()
	write(t, file, read(t, file)[:len(read(t, file))/2], 0o600)
}
