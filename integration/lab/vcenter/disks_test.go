package vcenter_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// find returns the file of that name below the datastores.
func (s *site) find(dir, name string) string {
	s.t.Helper()
	found := ""
	s.must(filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if filepath.Base(p) == name {
			found = p
		}
		return err
	}))
	if found == "" {
		s.t.Fatalf("no file %s below %s", name, dir)
	}
	return found
}

// dirOf opens a site and returns it with its directory.
func dirOf(t *testing.T, plain bool) (*site, string) {
	t.Helper()
	dir := ""
	s := open(t, plain, func(o *vcenter.Options) { dir = o.Dir })
	return s, dir
}

// onBoth is both, for tests that look at the files.
func onBoth(t *testing.T, check func(s *site, dir string, plain bool)) {
	t.Helper()
	for name, plain := range map[string]bool{"with rules": false, "plain vcsim": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir := dirOf(t, plain)
			check(s, dir, plain)
		})
	}
}

// A guest needs bytes behind its disk: the extent is as large as the disk, and takes no space.
func TestExtentHasTheSizeOfTheDisk(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *site, dir string, plain bool) {
		t := s.t
		disk := s.disk("web")
		st := wantFile(t, s.find(dir, "web-flat.vmdk"))
		if right := st.Size() == 32<<20; right == plain {
			t.Fatalf("got extent of %d bytes, which is right: %v, want %v", st.Size(), right, !plain)
		}
		m := object.NewVirtualDiskManager(s.c.Client)
		s.must(s.wait(m.ExtendVirtualDisk(t.Context(), disk, s.dc, 64<<10, nil)))
		st = wantFile(t, s.find(dir, "web-flat.vmdk"))
		if right := st.Size() == 64<<20; right == plain {
			t.Fatalf("extended: got extent of %d bytes, which is right: %v, want %v", st.Size(), right, !plain)
		}
	})
}

// The UUID is the disk's identity: it survives a move, and a copy has another.
func TestUUIDStaysWithTheDisk(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *site, dir string, plain bool) {
		t := s.t
		disk := s.disk("web")
		m := object.NewVirtualDiskManager(s.c.Client)
		uuid := func(name string) string {
			u, err := m.QueryVirtualDiskUuid(t.Context(), name, s.dc)
			s.must(err)
			return u
		}
		before := uuid(disk)
		to := strings.Replace(disk, "web", "moved", 1)
		s.must(s.wait(m.MoveVirtualDisk(t.Context(), disk, s.dc, to, s.dc, false)))
		if kept := uuid(to) == before; kept == plain {
			t.Fatalf("UUID %s became %s: kept %v, want %v", before, uuid(to), kept, !plain)
		}
		text, err := os.ReadFile(s.find(dir, "moved.vmdk"))
		s.must(err)
		if named := bytes.Contains(text, []byte("moved-flat.vmdk")); named == plain {
			t.Fatalf("descriptor names its own extent: %v, want %v:\n%s", named, !plain, text)
		}
		if plain {
			return
		}
		s.must(s.wait(m.CopyVirtualDisk(t.Context(), to, s.dc, disk, s.dc, nil, false)))
		if uuid(disk) == before {
			t.Fatal("the copy has the UUID of its original")
		}
	})
}

// A copy with a specification has the bytes of its original; vcsim reads them as a descriptor, and writes one over them.
func TestCopyWithASpecificationKeepsTheData(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *site, dir string, plain bool) {
		t := s.t
		disk := s.disk("web")
		f, err := os.OpenFile(s.find(dir, "web-flat.vmdk"), os.O_WRONLY, 0)
		s.must(err)
		data := bytes.Repeat([]byte("mooring!"), 512)
		_, err = f.WriteAt(data, 0)
		s.must(err)
		_, err = f.WriteAt(data, 1<<20)
		s.must(err)
		s.must(f.Close())
		m := object.NewVirtualDiskManager(s.c.Client)
		to := strings.Replace(disk, "web", "copy", 1)
		spec := &types.FileBackedVirtualDiskSpec{VirtualDiskSpec: types.VirtualDiskSpec{
			DiskType: string(types.VirtualDiskTypeThin), AdapterType: string(types.VirtualDiskAdapterTypeLsiLogic),
		}, CapacityKb: 32 << 10}
		if err := s.copyTo(m, disk, to, spec); plain && err != nil {
			return // it took the bytes for a descriptor
		}
		got, err := os.ReadFile(s.find(dir, "copy-flat.vmdk"))
		s.must(err)
		same := len(got) > 1<<20+len(data) && bytes.Equal(got[:len(data)], data) && bytes.Equal(got[1<<20:1<<20+len(data)], data)
		if same == plain {
			t.Fatalf("got %d bytes, the same as the original's: %v, want %v", len(got), same, !plain)
		}
	})
}

// copyTo copies with a specification, which govmomi's helper cannot carry.
func (s *site) copyTo(m *object.VirtualDiskManager, from, to string, spec types.BaseVirtualDiskSpec) error {
	s.t.Helper()
	return s.wait(m.CopyVirtualDisk(s.t.Context(), from, s.dc, to, s.dc, spec, false))
}

// What no datastore could make is refused.
func TestImpossibleDisksAreRefused(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		s.folder()
		err := s.create("[vsanDatastore] dockvols/huge.vmdk", 63<<20)
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.InvalidArgument{})
		wantFault(t, s.create("[vsanDatastore] dockvols/none.vmdk", 0), &types.InvalidArgument{})
		wantFault(t, s.create("[vsanDatastore] nowhere/web.vmdk", 32), &types.FileNotFound{})
		s.must(s.create("[vsanDatastore] dockvols/web.vmdk", 32))
		wantFault(t, s.create("[vsanDatastore] dockvols/web.vmdk", 32), &types.FileAlreadyExists{})
	})
}

// A datastore is full when it is full, and free again when disks go.
func TestSpaceIsAccountedFor(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		s.folder()
		m := object.NewVirtualDiskManager(s.c.Client)
		thick := func(name string, gb int64) error {
			return s.wait(m.CreateVirtualDisk(t.Context(), "[vsanDatastore] dockvols/"+name+".vmdk", s.dc, &types.FileBackedVirtualDiskSpec{
				VirtualDiskSpec: types.VirtualDiskSpec{
					AdapterType: string(types.VirtualDiskAdapterTypeLsiLogic), DiskType: string(types.VirtualDiskTypeEagerZeroedThick),
				}, CapacityKb: gb << 20,
			}))
		}
		before := s.free()
		s.must(thick("a", 1024))
		if counted := before-s.free() >= 2*1024<<30; counted == plain { // two copies
			t.Fatalf("free space went from %d to %d: counted %v, want %v", before, s.free(), counted, !plain)
		}
		err := thick("b", 1024)
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.NoDiskSpace{})
		s.must(s.create("[vsanDatastore] dockvols/thin.vmdk", 8<<20)) // thin disks take what is written
		s.must(s.wait(m.DeleteVirtualDisk(t.Context(), "[vsanDatastore] dockvols/a.vmdk", s.dc)))
		if after := s.free(); after < before-1<<20 {
			t.Fatalf("got %d free after deletion, want %d", after, before)
		}
	})
}
