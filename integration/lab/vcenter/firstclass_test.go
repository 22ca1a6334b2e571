package vcenter_test

import (
	"maps"
	"net/url"
	"slices"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vslm"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// firstClass is a first class disk of a site.
type firstClass struct {
	s  *site
	m  *vslm.ObjectManager
	ds *object.Datastore
	id string
}

// fcd makes a first class disk of 32 MB on vSAN.
func (s *site) fcd(name string, change ...func(*types.VslmCreateSpec)) *firstClass {
	s.t.Helper()
	f := &firstClass{s: s, m: vslm.NewObjectManager(s.c.Client)}
	var err error
	f.ds, err = s.finder.Datastore(s.t.Context(), vcenter.VSANDatastore)
	s.must(err)
	spec := types.VslmCreateSpec{
		Name: name, CapacityInMB: 32,
		BackingSpec: &types.VslmCreateSpecDiskFileBackingSpec{
			VslmCreateSpecBackingSpec: types.VslmCreateSpecBackingSpec{Datastore: f.ds.Reference()},
			ProvisioningType:          string(types.BaseConfigInfoDiskFileBackingInfoProvisioningTypeThin),
		},
	}
	for _, c := range change {
		c(&spec)
	}
	task, err := f.m.CreateDisk(s.t.Context(), spec)
	s.must(err)
	info, err := task.WaitForResult(s.t.Context())
	s.must(err)
	o, ok := info.Result.(types.VStorageObject)
	if !ok {
		s.t.Fatalf("got %T, want the description of the disk", info.Result)
	}
	f.id = o.Config.Id.Id
	return f
}

// attach attaches the disk at the first unit of the second controller that is free.
func (f *firstClass) attach(vm *object.VirtualMachine) error {
	return vm.AttachDisk(f.s.t.Context(), f.id, f.ds, 1001, nil)
}

func (f *firstClass) detach(vm *object.VirtualMachine) error {
	return vm.DetachDisk(f.s.t.Context(), f.id)
}

func (f *firstClass) remove() error {
	f.s.t.Helper()
	return f.s.wait(f.m.Delete(f.s.t.Context(), f.ds, f.id))
}

func (f *firstClass) extend(mb int64) error {
	f.s.t.Helper()
	return f.s.wait(f.m.ExtendDisk(f.s.t.Context(), f.ds, f.id, mb))
}

// config returns what the catalog says of the disk.
func (f *firstClass) config() types.VStorageObjectConfigInfo {
	f.s.t.Helper()
	o, err := f.m.Retrieve(f.s.t.Context(), f.ds, f.id)
	f.s.must(err)
	return o.Config
}

// backing returns the datastore path of the disk.
func (f *firstClass) backing() string {
	f.s.t.Helper()
	b, ok := f.config().Backing.(*types.BaseConfigInfoDiskFileBackingInfo)
	if !ok {
		f.s.t.Fatalf("got backing %T, want a file", f.config().Backing)
	}
	return b.FilePath
}

// wantConsumers fails the test unless the catalog names these machines, by BIOS UUID.
func (f *firstClass) wantConsumers(want ...string) {
	f.s.t.Helper()
	var got []string
	for _, id := range f.config().ConsumerId {
		got = append(got, id.Id)
	}
	if !slices.Equal(got, want) {
		f.s.t.Fatalf("got consumers %v, want %v", got, want)
	}
}

// all returns what is plugged, by UUID.
func (g *fakeGuest) all() map[string]vcenter.Disk {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.plugged)
}

const (
	biosOne = "42110000-0000-4000-8000-0000000000d1"
	biosTwo = "42110000-0000-4000-8000-0000000000d2"
)

// A disk has its bytes from the start, and vCenter's own folder is made without anybody's help.
func TestFirstClassDiskHasAnExtent(t *testing.T) {
	t.Parallel()
	onBoth(t, func(s *site, dir string, plain bool) {
		t := s.t
		f := s.fcd("web")
		st := wantFile(t, s.find(dir, f.id+"-flat.vmdk"))
		if right := st.Size() == 32<<20; right == plain {
			t.Fatalf("got extent of %d bytes, which is right: %v, want %v", st.Size(), right, !plain)
		}
		if plain {
			return
		}
		s.folder()
		at := s.fcd("db", func(spec *types.VslmCreateSpec) {
			spec.BackingSpec.GetVslmCreateSpecBackingSpec().Path = "dockvols/db.vmdk"
		})
		s.find(dir, "db-flat.vmdk")
		s.must(at.remove())
		wantFault(t, s.create("[vsanDatastore] fcd/"+f.id+".vmdk", 32), &types.FileAlreadyExists{})
	})
}

// A machine that has the disk has it by whichever call it came, on or off.
func TestAttachedFirstClassDiskIsNotDeleted(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		f := s.fcd("web")
		s.must(f.attach(s.one))
		wantFault(t, f.remove(), &types.InvalidState{}) // vcsim knows that much
		s.must(f.detach(s.one))
		s.must(s.reconfigure(s.two, add(f.backing(), 1001, new(int32(0)))))
		s.must(s.wait(s.two.PowerOff(t.Context())))
		err := f.remove()
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.InvalidState{})
		f.wantConsumers(biosTwo)
		s.must(f.detach(s.two))
		s.must(f.remove())
		if _, err := f.m.Retrieve(t.Context(), f.ds, f.id); err == nil {
			t.Fatal("a deleted disk is still in the catalog")
		}
		wantFault(t, f.remove(), &types.NotFound{})
	})
}

// A filesystem does not survive a disk that becomes smaller, and does not grow on a disk whose guest was not told.
func TestFirstClassDiskOnlyGrows(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		f := s.fcd("web")
		s.must(f.extend(64))
		shrunk := f.extend(32)
		if plain {
			if shrunk != nil {
				t.Fatalf("plain vcsim has got the rule: %v", shrunk)
			}
			return
		}
		wantFault(t, shrunk, &types.InvalidArgument{})
		s.must(f.attach(s.one))
		s.must(f.extend(96))
		wantFault(t, f.extend(64), &types.InvalidArgument{})
		d := s.disks(s.one)[0]
		if got := f.config().CapacityInMB; got != 96 || d.CapacityInBytes != 96<<20 {
			t.Fatalf("got %d MB in the catalog and %d bytes in the hardware, want 96 MB", got, d.CapacityInBytes)
		}
		if d.VDiskId == nil || d.VDiskId.Id != f.id {
			t.Fatalf("got ID %v after it grew, want %s", d.VDiskId, f.id)
		}
		for _, p := range s.guest.all() {
			if got := wantFile(t, p.Extent).Size(); got != 96<<20 {
				t.Fatalf("got extent of %d bytes, want 96 MB", got)
			}
		}
	})
}

// keepAfterDeleteVm is why one would choose a first class disk: it outlives its machine, unless it was made not to.
func TestFirstClassDiskOutlivesItsMachine(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		kept := s.fcd("kept")
		lost := s.fcd("lost", func(spec *types.VslmCreateSpec) { spec.KeepAfterDeleteVm = new(false) })
		s.must(kept.attach(s.two))
		s.must(lost.attach(s.two))
		s.must(s.wait(s.two.PowerOff(t.Context())))
		kept.wantConsumers(biosTwo)
		s.must(s.wait(s.two.Destroy(t.Context())))
		_, err := lost.m.Retrieve(t.Context(), lost.ds, lost.id)
		if gone := err != nil; gone == plain {
			t.Fatalf("the disk that was not to be kept is gone: %v, want %v", gone, !plain)
		}
		if plain {
			kept.wantConsumers(biosTwo) // a machine that is no more
			return
		}
		wantFault(t, err, &types.NotFound{})
		kept.wantConsumers()
		s.must(kept.attach(s.one))
		s.must(kept.detach(s.one))
		s.must(kept.remove())
	})
}

// A plain disk becomes a first class one where it lies: with its capacity, and once, however its path is spelt.
func TestPlainDiskIsRegisteredOnce(t *testing.T) {
	t.Parallel()
	both(t, func(s *site, plain bool) {
		t := s.t
		disk := s.disk("web")
		if !plain {
			s.must(s.reconfigure(s.one, add(disk, 1001, new(int32(0)))))
		}
		m := vslm.NewObjectManager(s.c.Client)
		register := func(path string) (*types.VStorageObject, error) {
			u := url.URL{Scheme: "https", Host: "lab", Path: "/folder/" + path, RawQuery: url.Values{
				"dcPath": {vcenter.Datacenter}, "dsName": {vcenter.VSANDatastore},
			}.Encode()}
			return m.RegisterDisk(t.Context(), u.String(), "web")
		}
		o, err := register("dockvols/web.vmdk")
		s.must(err)
		if right := o.Config.CapacityInMB == 32; right == plain {
			t.Fatalf("got %d MB, which is right: %v, want %v", o.Config.CapacityInMB, right, !plain)
		}
		ds, err := s.finder.Datastore(t.Context(), vcenter.VSANDatastore)
		s.must(err)
		_, err = register("dockvols//web.vmdk")
		if plain {
			if err != nil {
				t.Fatalf("plain vcsim has got the rule: %v", err)
			}
			return
		}
		wantFault(t, err, &types.AlreadyExists{})
		f := &firstClass{s: s, m: m, ds: ds, id: o.Config.Id.Id}
		f.wantConsumers(biosOne)
		s.must(f.detach(s.one))
		s.must(f.attach(s.two))
		f.wantConsumers(biosTwo)
	})
}
