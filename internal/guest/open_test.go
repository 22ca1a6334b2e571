package guest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
)

// A new volume is formatted once, keeps its data over unmount and mount, and Docker gets the directory data, empty of
// lost+found.
func TestNewVolumeIsFormattedOnceAndKeepsItsData(t *testing.T) {
	for _, fs := range mooring.FSTypes() {
		t.Run(string(fs), func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", fs)
			o, s, err := m.open(t, d)
			if err != nil {
				t.Fatal(err)
			}
			m.wantData(t, d, o)
			if want := []mooring.Format{mooring.Formatting, mooring.FormatDone}; !reflect.DeepEqual(s.formats, want) {
				t.Errorf("recorded: got %v, want %v", s.formats, want)
			}
			if entries, err := os.ReadDir(o.Dir); err != nil || len(entries) != 0 {
				t.Errorf("a new volume holds %v, %v, want nothing", entries, err)
			}
			if fi, err := os.Stat(o.Dir); err != nil || fi.Mode().Perm() != 0o755 {
				t.Errorf("mode: %v, %v, want 0755", fi.Mode(), err)
			}
			write(t, filepath.Join(o.Dir, "row"), "1")
			m.mustClose(t, d)
			m.wantUnmounted(t, d)

			o, s, err = m.open(t, d)
			if err != nil {
				t.Fatal(err)
			}
			m.wantData(t, d, o)
			if got := read(t, filepath.Join(o.Dir, "row")); got != "1" || len(s.formats) != 0 {
				t.Errorf("second time: row %q, recorded %v; want 1 and nothing", got, s.formats)
			}
			if c, err := m.Probe(t.Context(), d.dev); err != nil || c.UUID != d.FSUUID || c.Type != string(fs) {
				t.Errorf("found on the disk: %v, %v, want %s with UUID %s", c, err, fs, d.FSUUID)
			}
		})
	}
}

// dockerd mounts a volume again and again (docker cp, a second container): what is mounted is verified and left alone.
func TestMountedVolumeIsReturnedAsItIs(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	first := m.mustOpen(t, d)
	write(t, filepath.Join(first.Dir, "row"), "1")
	if again := m.mustOpen(t, d); again != first {
		t.Errorf("got %+v, want %+v", again, first)
	}
	m.mustClose(t, d)
	m.wantUnmounted(t, d) // once opened twice, closed once: nothing is stacked
}

// recordStarts has the machine's guest write down which programs it starts, and returns what tells those since the last call.
func (m *machine) recordStarts() func() []string {
	var log bytes.Buffer
	m.Guest = guest.New(guest.Config{MountDir: m.mounts, ByID: m.byID, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	return func() (names []string) {
		for line := range strings.Lines(log.String()) {
			if _, rest, ok := strings.Cut(line, "msg=command name="); ok {
				name, _, _ := strings.Cut(rest, " ")
				names = append(names, name)
			}
		}
		log.Reset()
		return names
	}
}

// After a boot all volumes are opened at once, and once more for each container that starts: as long as a volume is what it should be, no program is started for that.
func TestOpenStartsNoProcessForWhatIsWhole(t *testing.T) {
	for _, fs := range mooring.FSTypes() {
		t.Run(string(fs), func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", fs)
			m.mustOpen(t, d)
			m.mustClose(t, d)
			started := m.recordStarts()
			m.mustOpen(t, d)
			m.mustOpen(t, d)
			if got := started(); len(got) != 0 {
				t.Errorf("opened twice: started %q, want nothing", got)
			}
			uuid := d.FSUUID
			d.FSUUID = "ffffffff-ffff-4fff-bfff-ffffffffffff"
			if _, _, err := m.open(t, d); !errors.Is(err, mooring.ErrCorrupt) || !strings.Contains(err.Error(), string(uuid)) {
				t.Errorf("another filesystem than the volume's: got %v, want ErrCorrupt that names what is there", err)
			}
			d.FSUUID = uuid
			m.mustClose(t, d)
		})
	}
}

// What a container writes to the end of its disk may look like the sign of another owner of the disk (a RAID of old has its superblock there). The volume is its filesystem's all the same.
func TestOpenBelievesTheFilesystemAndNotWhatIsInIt(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	m.mustOpen(t, d)
	m.mustClose(t, d)
	size, err := strconv.ParseInt(strings.TrimSpace(sh(t, "blockdev", "--getsize64", d.dev)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	raid := make([]byte, 4096) // of version 0.90: md(4)
	copy(raid, "\xfc\x4e\x2b\xa9\x00\x00\x00\x00\x5a\x00\x00\x00")
	putAt(t, d.dev, size&^0xffff-0x10000, raid)
	if c, err := m.Probe(t.Context(), d.dev); err != nil || c.Kind != guest.Foreign {
		t.Fatalf("blkid finds %v (%v): the test shows nothing", c, err)
	}
	m.mustOpen(t, d)
	m.mustClose(t, d)
}

var errSidecar = errors.New("the datastore is full")

// Nobody gets a filesystem of which the sidecar still says that it may be formatted.
func TestFailureToRecordIsAnErrorAndMountsNothing(t *testing.T) {
	for _, f := range []mooring.Format{mooring.Formatting, mooring.FormatDone} {
		t.Run(string(f), func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", mooring.Ext4)
			s := &sidecar{d: d, fail: map[mooring.Format]error{f: errSidecar}}
			if _, err := m.Open(t.Context(), d.Volume, false, s); !errors.Is(err, errSidecar) {
				t.Fatalf("error: %v, want %v", err, errSidecar)
			}
			m.wantUnmounted(t, d)
			c, err := m.Probe(t.Context(), d.dev)
			if err != nil || (f == mooring.Formatting) != (c.String() == "nothing") {
				t.Errorf("found on the disk: %v, %v", c, err)
			}
			before := fsCreated(t, d, c.Type)
			s.fail = nil
			o, err := m.Open(t.Context(), d.Volume, false, s)
			if err != nil {
				t.Fatal(err)
			}
			m.wantData(t, d, o)
			if d.Format != mooring.FormatDone {
				t.Errorf("recorded: %q, want done", d.Format)
			}
			m.mustClose(t, d)
			// The mark was inside already: the filesystem was finished, not made a second time.
			if after := fsCreated(t, d, c.Type); before != after {
				t.Errorf("the filesystem was made %s, and again %s", before, after)
			}
		})
	}
}

// fsCreated returns what tells one run of mkfs.ext4 from another: the hash seed of its directories.
func fsCreated(t *testing.T, d *disk, fstype string) string {
	t.Helper()
	if fstype == "" {
		return ""
	}
	for line := range strings.Lines(sh(t, "dumpe2fs", "-h", d.dev)) {
		if seed, ok := strings.CutPrefix(line, "Directory Hash Seed:"); ok {
			return strings.TrimSpace(seed)
		}
	}
	t.Fatal("no hash seed")
	return ""
}

// The device may appear long after vCenter's answer, or never: the wait ends with the caller's, and says what to look at.
func TestAbsentDeviceIsWaitedForAndThenNamed(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	link := filepath.Join(m.byID, d.Disk.WWN())
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Open(ctx, d.Volume, false, &sidecar{d: d})
	if !errors.Is(err, mooring.ErrUnavailable) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), link) {
		t.Errorf("error: %v, want ErrUnavailable naming %s", err, link)
	}
	appear := make(chan error, 1)
	go func() { appear <- os.Symlink(d.dev, link) }()
	m.wantData(t, d, m.mustOpen(t, d))
	if err := <-appear; err != nil {
		t.Fatal(err)
	}
}
