package guest_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/guest"
)

// What was synced before the host died must be there after: the journal, or the log, is replayed before anything is handed out.
func TestJournalIsReplayedAfterAnUncleanStop(t *testing.T) {
	for _, fs := range mooring.FSTypes() {
		t.Run(string(fs), func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", fs)
			o := m.mustOpen(t, d)
			write(t, filepath.Join(o.Dir, "row"), "1")
			image := d.image + "-dead"
			sh(t, "cp", "--sparse=always", d.image, image) // as a dead host leaves the disk
			m.mustClose(t, d)
			dead := m.attach(t, "db-dead", fs, image)
			dead.FSUUID, dead.Format = d.FSUUID, mooring.FormatDone
			if fs == mooring.Ext4 && !strings.Contains(sh(t, "dumpe2fs", "-h", dead.dev), "needs_recovery") {
				t.Fatal("the copy is clean: the test shows nothing")
			}
			started := m.recordStarts()
			o, s, err := m.open(t, dead)
			if err != nil {
				t.Fatal(err)
			}
			if got := started(); len(got) > 0 {
				t.Errorf("started %q: the mount replays the journal, and e2fsck would do no more", got)
			}
			m.wantData(t, dead, o)
			if got := read(t, filepath.Join(o.Dir, "row")); got != "1" || len(s.formats) != 0 {
				t.Errorf("row %q, recorded %v; want 1 and nothing", got, s.formats)
			}
		})
	}
}

// A check that repairs by itself goes through, and whoever waits for it sees that it moves.
func TestCheckRepairsByItselfAndShowsProgress(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	o := m.mustOpen(t, d)
	write(t, filepath.Join(o.Dir, "row"), "1")
	m.mustClose(t, d)
	sh(t, "debugfs", "-w", "-R", "set_super_value state 0", d.dev) // not cleanly unmounted: all passes
	o, s, err := m.open(t, d)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(o.Dir, "row")); got != "1" || !slices.Contains(s.progress, "checking") {
		t.Errorf("row %q, progress %v; want 1, and checking", got, s.progress)
	}
}

// A superblock that asks for a check gets one before the mount: of errors that the kernel has seen, of a filesystem that was not unmounted, of too many mounts or too long a time without.
func TestSuperblockIsAskedWhetherToCheck(t *testing.T) {
	for what, c := range map[string]struct {
		tell []string
		want []string
	}{
		"nothing":         {nil, nil},
		"errors":          {[]string{"debugfs", "-w", "-R", "set_super_value state 3"}, []string{"e2fsck"}},
		"not unmounted":   {[]string{"debugfs", "-w", "-R", "set_super_value state 0"}, []string{"e2fsck"}},
		"many mounts":     {[]string{"tune2fs", "-c", "5", "-C", "5"}, []string{"e2fsck"}},
		"not many mounts": {[]string{"tune2fs", "-c", "5", "-C", "4"}, nil},
		"long ago":        {[]string{"tune2fs", "-i", "1d", "-T", "20200101"}, []string{"e2fsck"}},
		"not long ago":    {[]string{"tune2fs", "-i", "1d", "-T", "now"}, nil},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", mooring.Ext4)
			m.mustOpen(t, d)
			m.mustClose(t, d)
			if len(c.tell) > 0 {
				sh(t, c.tell[0], append(c.tell[1:], d.dev)...)
			}
			started := m.recordStarts()
			m.mustOpen(t, d)
			if got := started(); !slices.Equal(got, c.want) {
				t.Errorf("started %q, want %q", got, c.want)
			}
			m.mustClose(t, d)
		})
	}
}

// The journal may be the only place that tells of errors: it is known when it is replayed. The check comes then; what it repairs is repaired before anybody has the volume.
func TestErrorsThatOnlyTheJournalTellsAreChecked(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	sh(t, "mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "^metadata_csum", d.dev)
	d.Format, d.FSUUID = mooring.FormatDone, ""                         // as an adopted volume
	said := strings.Fields(sh(t, "debugfs", "-R", "bmap <8> 0", d.dev)) // its version, and the journal's first block
	at, err := strconv.ParseInt(said[len(said)-1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	putAt(t, d.dev, at*4096+0x20, []byte{0, 0, 0, 5}) // s_errno of its superblock
	started := m.recordStarts()
	m.mustOpen(t, d)
	if got := started(); !slices.Equal(got, []string{"blkid", "e2fsck"}) {
		t.Errorf("started %q, want blkid and e2fsck", got)
	}
	if state := sh(t, "dumpe2fs", "-h", d.dev); strings.Contains(state, "with errors") {
		t.Errorf("it was handed out with errors:\n%s", state)
	}
	m.mustClose(t, d)
}

// Damage that a preening check does not repair is a person's to repair, and told by an error of its own. The volume is not mounted, and the command is named.
func TestDamagedFilesystemIsNotMountedAndNamesTheCommand(t *testing.T) {
	for _, c := range []struct {
		fs      mooring.FSType
		damage  func(t *testing.T, d *disk)
		command string
	}{
		{mooring.Ext4, func(t *testing.T, d *disk) {
			t.Helper()
			sh(t, "debugfs", "-w", "-R", "clri <2>", d.dev)                // the root directory
			sh(t, "debugfs", "-w", "-R", "set_super_value state 2", d.dev) // the kernel has seen errors
		}, "e2fsck -f "},
		{mooring.XFS, func(t *testing.T, d *disk) {
			t.Helper()
			putAt(t, d.dev, 512, make([]byte, 3*512)) // the headers of the first allocation group
		}, "xfs_repair "},
	} {
		t.Run(string(c.fs), func(t *testing.T) {
			m := newMachine(t)
			d := m.newDisk(t, "db", c.fs)
			m.mustOpen(t, d)
			m.mustClose(t, d)
			c.damage(t, d)
			_, s, err := m.open(t, d)
			if _, ok := errors.AsType[*guest.DamagedError](err); !ok || !errors.Is(err, mooring.ErrCorrupt) {
				t.Fatalf("error: %v, want a DamagedError that wraps ErrCorrupt", err)
			}
			for _, want := range []string{"volume db", d.dev} {
				if text := err.Error(); !strings.Contains(text, want) || strings.Contains(text, "\n") {
					t.Errorf("error %q is to name %q, on one line", text, want)
				}
			}
			if hint, ok := errors.AsType[*mooring.HintError](err); !ok || hint.Hint != c.command+d.dev+", then start its containers again" {
				t.Errorf("error %q has the hint %+v, want the command %s on %s", err, hint, c.command, d.dev)
			}
			m.wantUnmounted(t, d)
			if len(s.formats) != 0 {
				t.Errorf("recorded %v", s.formats)
			}
		})
	}
}

// A program that is not there is named with its package, and nothing has begun.
func TestMissingProgramIsNamedWithItsPackage(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, "mkfs.nope")); err == nil {
			t.Fatal("mkfs.nope exists")
		}
	}
	_, err := m.Run(t.Context(), "mkfs.nope", d.dev)
	if !errors.Is(err, mooring.ErrUnavailable) || !strings.Contains(err.Error(), "mkfs.nope is not installed") {
		t.Errorf("error: %v, want ErrUnavailable naming mkfs.nope", err)
	}
}

// An mkfs that fails leaves a volume that is formatted by the next attempt.
func TestFailedMkfsIsAnErrorAndTriedAgain(t *testing.T) {
	m := newMachine(t)
	d := m.newDisk(t, "db", mooring.Ext4)
	path := os.Getenv("PATH")
	dir := t.TempDir()
	script := "#!/bin/sh\necho no room for the journal >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "mkfs.ext4"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+path)
	_, s, err := m.open(t, d)
	if err == nil || !strings.Contains(err.Error(), "no room for the journal") || !strings.Contains(err.Error(), d.dev) {
		t.Errorf("error: %v, want what mkfs said and the device", err)
	}
	m.wantUnmounted(t, d)
	if !slices.Equal(s.formats, []mooring.Format{mooring.Formatting}) {
		t.Errorf("recorded %v, want formatting", s.formats)
	}
	t.Setenv("PATH", path)
	m.wantData(t, d, m.mustOpen(t, d))
}
