package esx

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// topFolder is the folder on a datastore that holds the groups, as the ancestor's.
const topFolder = "dockvols"

// DefaultGroup is the group of volumes where none is configured.
const DefaultGroup = "default"

// Where says which virtual machine we run in and where its volumes lie.
type Where struct {
	// VM is the BIOS UUID of the virtual machine, in vSphere's byte order or in SMBIOS's, with or without dashes. Whoever
	// wires reads it (/sys/class/dmi/id/product_uuid); it must not be empty when vCenter is asked for the first time.
	VM string
	// Datastore is the name of the datastore that holds the volumes. Empty: the one that holds the virtual machine's home.
	Datastore string
	// Group is the folder of volumes that a set of virtual machines shares. Empty: [DefaultGroup].
	Group string
	// Linger is how long an attachment waits for a disk that another running machine has. Zero: 30 s.
	Linger time.Duration
}

// place is where the volumes lie and which machine we are, as vCenter says at this moment. It is looked up for each operation:
// a machine may move, and a vCenter that was restored may call things by other references.
type place struct {
	client  *vim25.Client
	vm      mo.VirtualMachine // name, config.uuid, config.instanceUuid, config.files, ...
	dc      *object.Datacenter
	dcPath  string
	ds      mo.Datastore
	browser types.ManagedObjectReference
	stores  []mo.Datastore // all that the datacenter has, by name
}

// backing returns where the disk of the volume lies.
func (p *place) backing(group string, name mooring.Name) mooring.Backing {
	return mooring.NewBacking(p.ds.Name, path.Join(topFolder, group, string(name)+".vmdk"))
}

// uuidForms returns the UUID as vSphere may spell it: in the given byte order, and with the first three fields swapped (SMBIOS before 2.6 and after
// read them in different orders, and so do guests' kernels).
func uuidForms(uuid string) ([]string, error) {
	id, err := mooring.ParseDiskID(strings.TrimSpace(uuid))
	if err != nil {
		return nil, fmt.Errorf("BIOS UUID %q of this virtual machine: want 32 hexadecimal digits: %w", uuid, mooring.ErrInvalid)
	}
	s := string(id)
	swap := func(field string) string {
		var b strings.Builder
		for i := len(field); i > 0; i -= 2 {
			b.WriteString(field[i-2 : i])
		}
		return b.String()
	}
	swapped := swap(s[:8]) + "-" + swap(s[9:13]) + "-" + swap(s[14:18]) + s[18:]
	if swapped == s {
		return []string{s}, nil
	}
	return []string{s, swapped}, nil
}

// place looks up where the volumes lie.
func (h *Host) place(ctx context.Context) (*place, error) {
	c, err := h.session.vim(ctx)
	if err != nil {
		return nil, err
	}
	p := &place{client: c}
	if p.vm, err = h.findVM(ctx, c); err != nil {
		return nil, err
	}
	ancestors, err := h.ancestors(ctx, c, p.vm.Self)
	if err != nil {
		return nil, fmt.Errorf("find the datacenter of %s: %w", p.vm.Name, err)
	}
	var names []string
	for _, a := range ancestors {
		if a.Parent != nil { // the root folder is not part of a path
			names = append(names, a.Name)
		}
		if a.Self.Type == "Datacenter" {
			p.dc, p.dcPath = object.NewDatacenter(c, a.Self), "/"+path.Join(names...)
			break
		}
	}
	if p.dc == nil {
		return nil, fmt.Errorf("find the datacenter of %s: it is in none: %w", p.vm.Name, mooring.ErrNotFound)
	}
	return p, h.findDatastore(ctx, p)
}

// findVM returns the machine with our BIOS UUID. Of several (a careless clone keeps it), the only one that runs is ours.
func (h *Host) findVM(ctx context.Context, c *vim25.Client) (mo.VirtualMachine, error) {
	var none mo.VirtualMachine
	forms, err := uuidForms(h.where.VM)
	if err != nil {
		return none, err
	}
	var refs []types.ManagedObjectReference
	for _, uuid := range forms {
		err := read(ctx, func() error {
			found, err := object.NewSearchIndex(c).FindAllByUuid(ctx, nil, uuid, true, nil)
			for _, f := range found {
				if !slices.Contains(refs, f.Reference()) {
					refs = append(refs, f.Reference())
				}
			}
			return err
		})
		if err != nil {
			return none, fmt.Errorf("find the virtual machine with BIOS UUID %s: %w", uuid, err)
		}
	}
	if len(refs) == 0 {
		return none, fmt.Errorf("find the virtual machine with BIOS UUID %s: the account sees none: %w", h.where.VM, mooring.ErrNotFound)
	}
	var vms []mo.VirtualMachine
	if err := h.session.properties(ctx, c, refs, []string{"name", "config.uuid", "config.instanceUuid", "config.files", "runtime.powerState"}, &vms); err != nil {
		return none, fmt.Errorf("read the virtual machine with BIOS UUID %s: %w", h.where.VM, err)
	}
	vms = slices.DeleteFunc(vms, func(vm mo.VirtualMachine) bool { return vm.Config == nil })
	if len(vms) > 1 {
		vms = slices.DeleteFunc(vms, func(vm mo.VirtualMachine) bool {
			return vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn
		})
	}
	if len(vms) != 1 {
		return none, fmt.Errorf("find the virtual machine with BIOS UUID %s: of %d that have it, %d run: %w", h.where.VM, len(refs), len(vms), mooring.ErrInvalid)
	}
	return vms[0], nil
}

// ancestors returns ref and what it is in, the root folder first.
func (h *Host) ancestors(ctx context.Context, c *vim25.Client, ref types.ManagedObjectReference) (found []mo.ManagedEntity, err error) {
	err = read(ctx, func() error {
		found, err = mo.Ancestors(ctx, c, c.ServiceContent.PropertyCollector, ref)
		return err
	})
	return found, err
}

// findDatastore fills in the datastore of the volumes.
func (h *Host) findDatastore(ctx context.Context, p *place) error {
	want := h.where.Datastore
	if want == "" {
		want = mooring.Backing(p.vm.Config.Files.VmPathName).Datastore()
	}
	var dc mo.Datacenter
	if err := h.session.property1(ctx, p.client, p.dc.Reference(), []string{"datastore"}, &dc); err != nil {
		return fmt.Errorf("list the datastores of %s: %w", p.dcPath, err)
	}
	if len(dc.Datastore) > 0 {
		if err := h.session.properties(ctx, p.client, dc.Datastore, []string{"name", "browser", "capability", "summary.url"}, &p.stores); err != nil {
			return fmt.Errorf("read the datastores of %s: %w", p.dcPath, err)
		}
	}
	var names []string
	for _, ds := range p.stores {
		if ds.Name == want {
			p.ds, p.browser = ds, ds.Browser
			return nil
		}
		names = append(names, ds.Name)
	}
	slices.Sort(names)
	return fmt.Errorf("find the datastore %q: there are %s: %w", want, strings.Join(names, ", "), mooring.ErrNotFound)
}
