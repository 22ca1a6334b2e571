// Package client looks at a virtual machine as a vSphere client would. A demo asks vCenter itself, not Mooring: what is proved must not rest on the word of
// what is to be proved.
package client

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/pbm"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// HardDisk is a disk in a virtual machine's hardware.
type HardDisk struct {
	Label   string // "Hard disk 2"
	UUID    string // its identity: vSAN calls directories by UUIDs of its own, so paths differ from those that were asked for
	Backing string
	Policy  string // the profile's name; empty if vCenter has none for the disk
}

// HardDisks returns the disks of the virtual machine called vm, sorted by the names of their files.
func HardDisks(ctx context.Context, vm string) ([]HardDisk, error) {
	client, err := login(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Logout(context.WithoutCancel(ctx)) }() // vCenter ends an idle session by itself
	found, err := find.NewFinder(client.Client, true).VirtualMachine(ctx, "/*/vm/"+vm)
	if err != nil {
		return nil, fmt.Errorf("find the virtual machine %s: %w", vm, err)
	}
	devices, err := found.Device(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the hardware of %s: %w", vm, err)
	}
	var disks []HardDisk
	for _, device := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		backing, ok := device.GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok {
			return nil, fmt.Errorf("%s: the backing is a %T: %w", devices.Name(device), device.GetVirtualDevice().Backing, mooring.ErrInvalid)
		}
		policy, err := policyOf(ctx, client.Client, found, device.GetVirtualDevice().Key)
		if err != nil {
			return nil, err
		}
		disks = append(disks, HardDisk{Label: labelOf(device), UUID: backing.Uuid, Backing: backing.FileName, Policy: policy})
	}
	slices.SortFunc(disks, func(a, b HardDisk) int { return strings.Compare(path.Base(a.Backing), path.Base(b.Backing)) })
	return disks, nil
}

func labelOf(device types.BaseVirtualDevice) string {
	if info := device.GetVirtualDevice().DeviceInfo; info != nil {
		return info.GetDescription().Label
	}
	return "a disk without a label"
}

// login opens a session as the administrator whom the lab put into the environment, in govc's words.
func login(ctx context.Context) (*govmomi.Client, error) {
	address, err := soap.ParseURL(os.Getenv("GOVC_URL"))
	if err != nil || address == nil {
		return nil, fmt.Errorf("GOVC_URL=%q: run the demo by `make demo`, in the lab: %w", os.Getenv("GOVC_URL"), mooring.ErrInvalid)
	}
	user := url.UserPassword(os.Getenv("GOVC_USERNAME"), os.Getenv("GOVC_PASSWORD"))
	if address.User.Username() != "" {
		user = address.User
	}
	transport := soap.NewClient(address, false)
	if err := transport.SetRootCAs(os.Getenv("GOVC_TLS_CA_CERTS")); err != nil {
		return nil, fmt.Errorf("read GOVC_TLS_CA_CERTS: %w", err)
	}
	client, err := vim25.NewClient(ctx, transport)
	if err != nil {
		return nil, fmt.Errorf("reach vCenter: %w", err)
	}
	sessions := session.NewManager(client)
	if err := sessions.Login(ctx, user); err != nil {
		return nil, fmt.Errorf("log in to vCenter: %w", err)
	}
	return &govmomi.Client{Client: client, SessionManager: sessions}, nil
}

// policyOf returns the name of the profile that vCenter has for an attached disk, or "" if there is none.
func policyOf(ctx context.Context, client *vim25.Client, vm *object.VirtualMachine, key int32) (string, error) {
	profiles, err := pbm.NewClient(ctx, client)
	if err != nil {
		return "", fmt.Errorf("reach vCenter's policies: %w", err)
	}
	ids, err := profiles.QueryAssociatedProfile(ctx, pbmtypes.PbmServerObjectRef{
		ObjectType: string(pbmtypes.PbmObjectTypeVirtualDiskId),
		Key:        vm.Reference().Value + ":" + strconv.Itoa(int(key)),
	})
	if err != nil || len(ids) == 0 {
		return "", err
	}
	content, err := profiles.RetrieveContent(ctx, ids[:1])
	if err != nil {
		return "", fmt.Errorf("read the profile %s: %w", ids[0].UniqueId, err)
	}
	return content[0].GetPbmProfile().Name, nil
}
