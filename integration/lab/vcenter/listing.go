package vcenter

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/vmware/govmomi/simulator"
)

// Stored is a virtual disk on a datastore, and who has it.
type Stored struct {
	Backing   string `json:"backing"` // as hardware lists have it
	UUID      string `json:"uuid"`
	Capacity  int64  `json:"capacity"`     // bytes
	Used      int64  `json:"used"`         // bytes that its blocks occupy
	VM        string `json:"vm,omitempty"` // that has it in its configuration; empty: none
	PoweredOn bool   `json:"poweredOn"`    // that machine
	Label     string `json:"label,omitempty"`
	Profile   string `json:"profile,omitempty"` // that was given with it when it was attached
}

// Disks lists the disks on all datastores, ordered by who has them: those that no virtual machine has come last. A disk that several
// machines have is listed for each.
func (v *VCenter) Disks() ([]Stored, error) {
	var out []Stored
	for _, e := range v.reg.All("Datastore") {
		ds, ok := e.(*simulator.Datastore)
		if !ok {
			continue
		}
		found, err := v.disksBelow(ds.Summary.Url)
		if err != nil {
			return nil, fmt.Errorf("list disks of %s: %w", ds.Name, err)
		}
		out = append(out, found...)
	}
	out = ownedBy(out, v.Machines())
	slices.SortFunc(out, func(a, b Stored) int {
		return cmp.Or(-cmp.Compare(min(len(a.VM), 1), min(len(b.VM), 1)), cmp.Compare(a.VM, b.VM), cmp.Compare(a.Label, b.Label), cmp.Compare(a.Backing, b.Backing))
	})
	return out, nil
}

// disksBelow reads every descriptor in the directory of a datastore. What is deleted meanwhile is left out.
func (v *VCenter) disksBelow(dir string) ([]Stored, error) {
	var out []Stored
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() || !strings.HasSuffix(file, diskSuffix) || strings.HasSuffix(file, extentSuffix) {
			return err
		}
		name := v.canonical(file)
		v.hw.Lock() // a disk that has no UUID yet is given one
		d, fault := v.readDescriptor(file, name)
		v.hw.Unlock()
		if fault != nil {
			return nil
		}
		out = append(out, Stored{Backing: name, UUID: d.uuid, Capacity: d.capacity, Used: occupied(d.extent)})
		return nil
	})
	return out, err
}

// occupied returns the bytes that the file's blocks take, 0 of a file that is gone.
func occupied(file string) int64 {
	st, err := os.Stat(file)
	if err != nil {
		return 0
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return sys.Blocks * 512
}

// ownedBy adds to the disks what the machines say of them.
func ownedBy(disks []Stored, machines []Machine) []Stored {
	var out []Stored
	for _, d := range disks {
		owned := false
		for _, m := range machines {
			for _, a := range m.Disks {
				if a.Backing != d.Backing {
					continue
				}
				had := d
				had.VM, had.PoweredOn, had.Label, had.Profile = m.Name, m.PoweredOn, a.Label, a.Profile
				out, owned = append(out, had), true
			}
		}
		if !owned {
			out = append(out, d)
		}
	}
	return out
}
