package esx_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
)

func spec(name mooring.Name) mooring.Spec {
	return mooring.Spec{Name: name, Size: 64 * mooring.MB, FSType: mooring.Ext4}
}

func create(t *testing.T, h *esx.Host, name mooring.Name) mooring.Volume {
	t.Helper()
	vol, err := h.Create(t.Context(), spec(name), mooring.Given{})
	if err != nil {
		t.Fatal(err)
	}
	return vol
}

// folder lists the files of the group.
func (v *vcsim) folder(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(v.file(t, "[LocalDS_0] dockvols/default/x")))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func sidecar(vol mooring.Volume) mooring.Backing {
	return mooring.Backing(strings.TrimSuffix(string(vol.Backing), ".vmdk") + ".json")
}

func (v *vcsim) readSidecar(t *testing.T, vol mooring.Volume) mooring.Volume {
	t.Helper()
	content, err := os.ReadFile(v.file(t, sidecar(vol)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := esx.Decode(content)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (v *vcsim) writeSidecar(t *testing.T, vol mooring.Volume) {
	t.Helper()
	content, err := esx.Encode(vol)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.file(t, sidecar(vol)), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCreatedVolumeIsDescribedBesideItsDiskAndNothingElseIsLeft(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	if vol.Backing != "[LocalDS_0] dockvols/default/db.vmdk" || vol.Disk == "" || vol.FSUUID == "" || vol.Format != mooring.FormatNone ||
		vol.CreatedBy != v.vm.Name || vol.Created.IsZero() || vol.Spec != spec("db") {
		t.Errorf("got %+v", vol)
	}
	if got := v.readSidecar(t, vol); got.Disk != vol.Disk || got.FSUUID != vol.FSUUID || got.Format != mooring.FormatNone {
		t.Errorf("got sidecar %+v, want %+v", got, vol)
	}
	if got, want := v.folder(t), []string{"db-flat.vmdk", "db.json", "db.vmdk"}; !slices.Equal(got, want) {
		t.Errorf("got files %v, want %v", got, want)
	}
	found, err := h.Find(t.Context(), "db")
	if err != nil || found.Disk != vol.Disk || found.FSUUID != vol.FSUUID {
		t.Errorf("got %+v, %v, want %+v", found, err, vol)
	}
}

func TestSecondCreateAdoptsUnlessAGivenOptionDiffers(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	other := mooring.Spec{Name: "db", Size: mooring.GB, FSType: mooring.XFS, Policy: "SW=2"}
	got, err := h.Create(t.Context(), other, mooring.Given{})
	if err != nil || got.FSUUID != vol.FSUUID || got.Size != vol.Size {
		t.Errorf("got %+v, %v, want %+v", got, err, vol)
	}
	if _, err := h.Create(t.Context(), vol.Spec, mooring.Given{Size: true, FSType: true}); err != nil {
		t.Errorf("got %v for the same options", err)
	}
	_, err = h.Create(t.Context(), other, mooring.Given{Size: true, FSType: true, Policy: true})
	for _, want := range []string{"size is 64mb, asked for is 1gb", "fstype is ext4, asked for is xfs", "storage policy is unknown, asked for is SW=2"} {
		if !errors.Is(err, mooring.ErrExists) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrExists with %q", err, want)
		}
	}
	if n := v.count("CreateVirtualDisk_Task"); n != 1 {
		t.Errorf("got %d disks made, want 1", n)
	}
}

// A disk whose sidecar cannot be believed may hold data of before; only what is known to be empty is ever formatted.
func TestSidecarThatIsMissingTornOrOfAnotherDiskMakesTheFormatUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, v *vcsim, vol mooring.Volume)
		want  error // of SetFormat
	}{
		"missing": {func(t *testing.T, v *vcsim, vol mooring.Volume) {
			t.Helper()
			if err := os.Remove(v.file(t, sidecar(vol))); err != nil {
				t.Error(err)
			}
		}, mooring.ErrNotFound},
		"torn": {func(t *testing.T, v *vcsim, vol mooring.Volume) {
			t.Helper()
			if err := os.Truncate(v.file(t, sidecar(vol)), 100); err != nil {
				t.Error(err)
			}
		}, mooring.ErrCorrupt},
		"of another disk": {func(t *testing.T, v *vcsim, vol mooring.Volume) {
			t.Helper()
			vol.Disk = volume(1).Disk
			v.writeSidecar(t, vol)
		}, mooring.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVCSim(t)
			h := newHost(t, v)
			vol := create(t, h, "db")
			c.spoil(t, v, vol)
			for verb, look := range map[string]func() (mooring.Volume, error){
				"find":  func() (mooring.Volume, error) { return h.Find(t.Context(), "db") },
				"adopt": func() (mooring.Volume, error) { return h.Create(t.Context(), spec("db"), mooring.Given{}) },
			} {
				got, err := look()
				if err != nil || got.Format != mooring.FormatUnknown || got.FSUUID != "" || got.Disk != vol.Disk {
					t.Errorf("%s: got %+v, %v, want the disk with its format unknown", verb, got, err)
				}
			}
			if err := h.SetFormat(t.Context(), vol, mooring.Formatting); !errors.Is(err, c.want) {
				t.Errorf("set format: got %v, want %v", err, c.want)
			}
		})
	}
}

func TestFormatIsWrittenDownBesideTheDisk(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	for _, f := range []mooring.Format{mooring.Formatting, mooring.FormatDone, mooring.FormatDone} {
		if err := h.SetFormat(t.Context(), vol, f); err != nil {
			t.Fatal(err)
		}
		got := v.readSidecar(t, vol)
		if got.Format != f || got.FSUUID != vol.FSUUID || got.Spec != vol.Spec {
			t.Errorf("got %+v, want format %q and nothing else changed", got, f)
		}
	}
	if got := v.folder(t); len(got) != 3 {
		t.Errorf("got files %v, want no leftovers", got)
	}
}

// Create may be killed after each of its three steps.
func TestKilledCreateIsCompletedByTheNext(t *testing.T) {
	for name, c := range map[string]struct {
		by     string // who wrote the intent; empty: this machine
		noDisk bool
		same   bool // the filesystem UUID of the intent is kept
	}{
		"ours, the disk was made":          {same: true},
		"ours, no disk yet":                {noDisk: true},
		"another's, the disk was made":     {by: "other", same: true},
		"another's, no disk, and it stays": {by: "other", noDisk: true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVCSim(t)
			h := newHost(t, v)
			vol := create(t, h, "db")
			intent := vol
			intent.Disk = ""
			if c.by != "" {
				intent.CreatedBy = c.by
			}
			v.writeSidecar(t, intent)
			if c.noDisk {
				for _, b := range []mooring.Backing{vol.Backing, "[LocalDS_0] dockvols/default/db-flat.vmdk"} {
					if err := os.Remove(v.file(t, b)); err != nil {
						t.Fatal(err)
					}
				}
			} else if got, err := h.Find(t.Context(), "db"); err != nil || got.Format != mooring.FormatNone || got.Disk == "" {
				t.Errorf("find: got %+v, %v, want a volume that was never formatted", got, err)
			}
			got, err := h.Create(t.Context(), spec("db"), mooring.Given{Size: true})
			if err != nil || got.Format != mooring.FormatNone || (got.FSUUID == vol.FSUUID) != c.same || got.Disk == "" {
				t.Errorf("got %+v, %v", got, err)
			}
			if s := v.readSidecar(t, vol); s.Disk != got.Disk || s.FSUUID != got.FSUUID {
				t.Errorf("got sidecar %+v, want %+v", s, got)
			}
		})
	}
}

// A volume whose create was killed after its disk was made is found by dockerd's look-up, so that no create comes: the first mount completes it.
func TestFormattingCompletesAKilledCreate(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	intent := vol
	intent.Disk = ""
	v.writeSidecar(t, intent)
	if err := h.SetFormat(t.Context(), vol, mooring.Formatting); err != nil {
		t.Fatal(err)
	}
	if s := v.readSidecar(t, vol); s.Disk != vol.Disk || s.Format != mooring.Formatting || s.FSUUID != vol.FSUUID {
		t.Errorf("got sidecar %+v, want it to name the disk", s)
	}
}

// A sidecar whose disk is gone is older than the volume that is made now.
func TestOldSidecarWithoutADiskIsReplaced(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	old := volume(1)
	old.Name, old.Backing, old.Format, old.FSUUID = "db", "[LocalDS_0] dockvols/default/db.vmdk", mooring.FormatDone, "0f8fad5b-d9cb-469f-a165-70867728950e"
	if err := os.MkdirAll(filepath.Dir(v.file(t, old.Backing)), 0o700); err != nil {
		t.Fatal(err)
	}
	v.writeSidecar(t, old)
	if got := create(t, h, "db"); got.Format != mooring.FormatNone || got.FSUUID == old.FSUUID || got.Disk == old.Disk {
		t.Errorf("got %+v, want a new volume", got)
	}
}

// Two hosts that create one name at once must agree on the filesystem's UUID: each may be the one that formats it.
func TestHostsThatCreateOneNameAtOnceGetOneVolume(t *testing.T) {
	v := newVCSim(t)
	var hosts []*esx.Host
	for _, vm := range v.machines() {
		hosts = append(hosts, newHostOn(t, v, vm))
	}
	got := make([]mooring.Volume, len(hosts))
	var all sync.WaitGroup
	for i, h := range hosts {
		h.SetIntent(5*time.Second, 10*time.Millisecond)
		all.Go(func() {
			vol, err := h.Create(t.Context(), spec("db"), mooring.Given{Size: true})
			if err != nil {
				t.Error(err)
			}
			got[i] = vol
		})
	}
	all.Wait()
	s := v.readSidecar(t, got[0])
	for _, vol := range got {
		if vol.Disk != s.Disk || vol.FSUUID != s.FSUUID || vol.Format != mooring.FormatNone {
			t.Errorf("got %+v, want %+v", vol, s)
		}
	}
	if files := v.folder(t); len(files) != 3 {
		t.Errorf("got files %v, want no leftovers", files)
	}
}

func TestRefusedDiskLeavesNothingBehind(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	v.refuse(func(method string, _ any) types.BaseMethodFault {
		if method == "CreateVirtualDisk_Task" {
			return &types.NoDiskSpace{Datastore: "LocalDS_0"}
		}
		return nil
	})
	if _, err := h.Create(t.Context(), spec("db"), mooring.Given{}); !errors.Is(err, mooring.ErrCapacity) {
		t.Errorf("got %v, want ErrCapacity", err)
	}
	if files := v.folder(t); len(files) != 0 {
		t.Errorf("got files %v, want none", files)
	}
}

func TestNamesListsVolumesAndNothingElse(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	if names, err := h.Names(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("got %v, %v from a folder that is not there, want none", names, err)
	}
	want := []mooring.Name{"a*b", "axb", "b1", "b[1]", "c?d#e%41 f", "größe"}
	for _, name := range want {
		create(t, h, name)
	}
	for _, other := range []string{"web-000001.vmdk", "note.txt", "x.vmdk.bak"} {
		if err := os.WriteFile(v.file(t, mooring.Backing("[LocalDS_0] dockvols/default/"+other)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := h.Names(t.Context()); err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v, want %q", names, err, want)
	}
	for _, name := range want {
		vol, err := h.Find(t.Context(), name)
		if err != nil || vol.Name != name || vol.Format != mooring.FormatNone {
			t.Errorf("%q: got %+v, %v", name, vol, err)
		}
	}
	if err := h.Delete(t.Context(), mooring.Volume{Spec: spec("a*b")}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Find(t.Context(), "axb"); err != nil {
		t.Errorf("the deletion of a*b took axb: %v", err)
	}
	if _, err := h.Find(t.Context(), "a*b"); !errors.Is(err, mooring.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestDeleteTakesTheDiskItsSidecarAndLeftoversAndIsIdempotent(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	create(t, h, "db2")
	if err := os.WriteFile(v.file(t, sidecar(vol))+".0123456789abcdef.tmp", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Delete(t.Context(), vol); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := v.folder(t), []string{"db2-flat.vmdk", "db2.json", "db2.vmdk"}; !slices.Equal(got, want) {
		t.Errorf("got files %v, want %v", got, want)
	}
}

// The name may have been deleted and made anew by another host; what this host's ledger knows is then another disk.
func TestDeleteSparesADiskThatIsNotTheVolumes(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	stale := vol
	stale.Disk = volume(1).Disk
	if err := h.Delete(t.Context(), stale); !errors.Is(err, mooring.ErrCorrupt) || !strings.Contains(err.Error(), string(vol.Disk)) {
		t.Errorf("got %v, want ErrCorrupt naming %s", err, vol.Disk)
	}
	if got := v.folder(t); len(got) != 3 {
		t.Errorf("got files %v, want them all", got)
	}
}

// vcsim deletes attached disks without a word. Mooring looks first.
func TestDeleteSparesADiskThatAMachineHas(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	vol := create(t, h, "db")
	if err := h.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	err := h.Delete(t.Context(), vol)
	if !errors.Is(err, mooring.ErrInUse) || !strings.Contains(err.Error(), v.vm.Name) || !strings.Contains(err.Error(), "powered on") {
		t.Errorf("got %v, want ErrInUse naming %s and that it is powered on", err, v.vm.Name)
	}
	if v.count("DeleteVirtualDisk_Task") != 0 {
		t.Error("the deletion was tried")
	}
}

// The answer to a request that changes something may be lost. Doing it again blindly would fail, or do it twice.
func TestWorkWhoseAnswerIsLostIsReadBack(t *testing.T) {
	v := newVCSim(t)
	h, l := newLossyHost(t, v)
	for _, method := range []string{"CreateVirtualDisk_Task", "MoveDatastoreFile_Task", "MakeDirectory"} {
		l.loseNext(method)
	}
	vol := create(t, h, "db")
	if vol.Format != mooring.FormatNone || vol.FSUUID != v.readSidecar(t, vol).FSUUID {
		t.Errorf("got %+v", vol)
	}
	l.loseNext("ReconfigVM_Task")
	if err := h.Attach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	if n := v.count("ReconfigVM_Task"); n != 1 {
		t.Errorf("got %d tasks, want 1: what is there is not added again", n)
	}
	l.loseNext("MoveDatastoreFile_Task")
	if err := h.SetFormat(t.Context(), vol, mooring.FormatDone); err != nil || v.readSidecar(t, vol).Format != mooring.FormatDone {
		t.Errorf("set format: got %v", err)
	}
	l.loseNext("ReconfigVM_Task")
	if err := h.Detach(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	l.loseNext("DeleteVirtualDisk_Task")
	if err := h.Delete(t.Context(), vol); err != nil {
		t.Fatal(err)
	}
	if files := v.folder(t); len(files) != 0 {
		t.Errorf("got files %v, want none", files)
	}
}
