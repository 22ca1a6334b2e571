package vcenter

import (
	"fmt"
	"os"
	"syscall"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const blockSize = 512 // what st_blocks counts in

// capacityUse accounts for the space of a datastore: a disk takes what its policy or its kind reserves, or the
// blocks that were written to it, whichever is more, for each copy that the policy keeps.
type capacityUse struct {
	total int64
	disks map[string]use // by descriptor file
}

type use struct {
	extent   string
	reserved int64
	copies   float64
}

func (u use) bytes() int64 {
	n := u.reserved
	if st, err := os.Stat(u.extent); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			n = max(n, sys.Blocks*blockSize)
		}
	}
	return int64(float64(n) * u.copies)
}

func (c *capacityUse) free() int64 {
	left := c.total
	for _, u := range c.disks {
		left -= u.bytes()
	}
	return left
}

// measure opens the books of every datastore.
func (v *VCenter) measure() {
	v.hw.Lock()
	defer v.hw.Unlock()
	for _, e := range v.reg.All("Datastore") {
		ds, ok := e.(*simulator.Datastore)
		if !ok {
			continue
		}
		total := v.opts.Capacity
		if total == 0 {
			total = ds.Summary.Capacity
		}
		v.datasets[ds.Name] = &capacityUse{total: total, disks: map[string]use{}}
		v.remeasure(ds.Name)
	}
}

// claimSpace books the disk, or answers NoDiskSpace. The caller holds v.hw.
func (v *VCenter) claimSpace(d diskFile, profile string) types.BaseMethodFault {
	c := v.datasets[d.datastore]
	if c == nil {
		return &types.InvalidDatastore{Name: d.datastore}
	}
	u := use{extent: d.extent, copies: 1}
	if v.datastore(d.datastore).Summary.Type == vsanType {
		r := v.spbm.rules(profile)
		u.copies = r.copies()
		u.reserved = d.capacity / 100 * int64(r.reservation)
	}
	if !d.thin {
		u.reserved = d.capacity
	}
	before, had := c.disks[d.file]
	c.disks[d.file] = u
	if c.free() >= 0 {
		return nil
	}
	delete(c.disks, d.file)
	if had {
		c.disks[d.file] = before
	}
	return withMessage(&types.NoDiskSpace{FileFault: types.FileFault{File: v.canonical(d.file)}, Datastore: d.datastore},
		"vob.fssvec.noSpace", "there is not enough space on datastore %s: %d bytes are free", d.datastore, c.free())
}

// releaseSpace closes the book of the disk. The caller holds v.hw.
func (v *VCenter) releaseSpace(d diskFile) {
	if c := v.datasets[d.datastore]; c != nil {
		delete(c.disks, d.file)
	}
}

// remeasure publishes the free space of the datastore, without disks whose files somebody has deleted one by one. The caller holds v.hw.
func (v *VCenter) remeasure(name string) {
	ds, c := v.datastore(name), v.datasets[name]
	if ds == nil || c == nil {
		return
	}
	for file := range c.disks {
		if _, err := os.Stat(file); os.IsNotExist(err) {
			delete(c.disks, file)
		}
	}
	left := max(c.free(), 0)
	v.reg.AtomicUpdate(v.context(""), ds, []types.PropertyChange{
		{Name: "summary.capacity", Val: c.total},
		{Name: "summary.freeSpace", Val: left},
	})
}

// SetCapacity changes the size of a datastore.
func (v *VCenter) SetCapacity(datastore string, bytes int64) error {
	v.hw.Lock()
	defer v.hw.Unlock()
	c := v.datasets[datastore]
	if c == nil {
		return fmt.Errorf("set capacity of %s: no such datastore", datastore)
	}
	c.total = bytes
	v.remeasure(datastore)
	return nil
}

func (s *shadow) refresh() {
	ds, ok := s.v.reg.Get(s.self).(*simulator.Datastore)
	if !ok {
		return
	}
	s.v.hw.Lock()
	defer s.v.hw.Unlock()
	s.v.remeasure(ds.Name)
}

// RefreshDatastore publishes the free space anew. vcsim sets it to the capacity.
func (s *shadow) RefreshDatastore(*simulator.Context, *types.RefreshDatastore) soap.HasFault {
	s.refresh()
	return &methods.RefreshDatastoreBody{Res: new(types.RefreshDatastoreResponse)}
}

// RefreshDatastoreStorageInfo publishes the free space anew.
func (s *shadow) RefreshDatastoreStorageInfo(*simulator.Context, *types.RefreshDatastoreStorageInfo) soap.HasFault {
	s.refresh()
	return &methods.RefreshDatastoreStorageInfoBody{Res: new(types.RefreshDatastoreStorageInfoResponse)}
}
