package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// leaveWithin is how long a guest may take to let a controller go: its kernel has a say in that, unlike with disks.
const leaveWithin = 30 * time.Second

// controllers is how many SCSI controllers a virtual machine can have.
const controllers = 4

func controllerID(bus int) string { return "pvscsi" + strconv.Itoa(bus) }

// controllerSlot is the controller's place on the PCI bus.
func controllerSlot(bus int) int { return 0x10 + bus }

// diskID names the device and the block node of the disk at this place. QEMU's names are shorter than a UUID.
func diskID(d vcenter.Disk) string { return fmt.Sprintf("disk-%d-%d", d.Controller, d.Unit) }

// Plug makes the disk appear in the guest, at its controller and unit, with its UUID as the serial number. The error wraps [mooring.ErrFenced] when another
// QEMU has its extent. A disk that is there already stays as it is.
func (m *Machine) Plug(ctx context.Context, d vcenter.Disk) error {
	p, err := m.answering()
	if err != nil {
		return fmt.Errorf("plug disk %s: %w", d.UUID, err)
	}
	return p.plug(ctx, d)
}

// plug runs to its end, which is near, even if nobody waits for it any more: half a disk would keep the extent.
func (p *process) plug(ctx context.Context, d vcenter.Disk) error {
	ctx = context.WithoutCancel(ctx)
	p.mu.Lock()
	_, there := p.disks[d.UUID]
	bus := p.controllers[d.Controller]
	p.mu.Unlock()
	if there {
		return nil
	}
	if !bus {
		return fmt.Errorf("plug disk %s: there is no controller %d: %w", d.UUID, d.Controller, mooring.ErrInvalid)
	}
	id := diskID(d)
	err := p.qmp.do(ctx, "blockdev-add", args{
		"node-name": id, "driver": "raw", "discard": "unmap",
		"cache": args{"direct": false, "no-flush": false},
		"file":  args{"driver": "file", "filename": d.Extent, "locking": "on"},
	})
	if err != nil {
		return fmt.Errorf("plug disk %s: %w", d.UUID, fenced(err))
	}
	err = p.qmp.do(ctx, "device_add", args{
		"driver": "scsi-hd", "id": id, "drive": id, "bus": controllerID(d.Controller) + ".0", "scsi-id": d.Unit, "lun": 0,
		"serial": strings.ReplaceAll(d.UUID, "-", ""), "write-cache": "off",
	})
	if err != nil { // a lock that the node does not need, its first user does: another QEMU's is met here
		return fmt.Errorf("plug disk %s: %w", d.UUID, errors.Join(fenced(err), p.qmp.do(ctx, "blockdev-del", args{"node-name": id})))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disks[d.UUID] = d
	return nil
}

// fenced marks a refusal that comes from another QEMU's lock. QEMU has no error class for it, only these words.
func fenced(err error) error {
	var refused *qmpError
	if errors.As(err, &refused) && strings.Contains(refused.Desc, " lock") {
		return errors.Join(err, mooring.ErrFenced)
	}
	return err
}

// Unplug takes the disk away, whether or not the guest uses it. One that is not there is none to take.
func (m *Machine) Unplug(ctx context.Context, d vcenter.Disk) error {
	p, err := m.answering()
	if err != nil {
		return fmt.Errorf("unplug disk %s: %w", d.UUID, err)
	}
	p.mu.Lock()
	at, there := p.disks[d.UUID]
	p.mu.Unlock()
	if !there {
		return nil
	}
	id := diskID(at)
	ctx = context.WithoutCancel(ctx) // to its end, as with plug
	if err := p.remove(ctx, id, answerWithin); err != nil {
		return fmt.Errorf("unplug disk %s: %w", d.UUID, err)
	}
	if err := p.qmp.do(ctx, "blockdev-del", args{"node-name": id}); err != nil {
		return fmt.Errorf("unplug disk %s: close its extent: %w", d.UUID, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.disks, d.UUID)
	return nil
}

// remove takes a device away and waits until it is gone.
func (p *process) remove(ctx context.Context, id string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	events, unwatch := p.qmp.watch()
	defer unwatch()
	if err := p.qmp.do(ctx, "device_del", args{"id": id}); err != nil {
		return err
	}
	for {
		select {
		case e := <-events:
			var data struct {
				Device string `json:"device"`
			}
			if e.Name == "DEVICE_DELETED" && json.Unmarshal(e.Data, &data) == nil && data.Device == id {
				return nil
			}
		case <-p.qmp.done:
			return fmt.Errorf("await the removal of %s: QEMU has ended: %w", id, mooring.ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("await the removal of %s: %w", id, errors.Join(context.Cause(ctx), mooring.ErrUnavailable))
		}
	}
}

// Grow tells the guest's disk that its extent has become larger. The guest sees that when it looks again.
func (m *Machine) Grow(ctx context.Context, d vcenter.Disk) error {
	p, err := m.answering()
	if err != nil {
		return fmt.Errorf("grow disk %s: %w", d.UUID, err)
	}
	p.mu.Lock()
	at, there := p.disks[d.UUID]
	p.mu.Unlock()
	switch {
	case !there:
		return nil
	case d.Capacity < at.Capacity:
		return fmt.Errorf("grow disk %s from %d to %d bytes: it cannot become smaller: %w", d.UUID, at.Capacity, d.Capacity, mooring.ErrInvalid)
	}
	if err := p.qmp.do(ctx, "block_resize", args{"node-name": diskID(at), "size": d.Capacity}); err != nil {
		return fmt.Errorf("grow disk %s: %w", d.UUID, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at.Capacity = d.Capacity
	p.disks[d.UUID] = at
	return nil
}

// AddController makes the controller with the bus number appear.
func (m *Machine) AddController(ctx context.Context, bus int) error {
	p, err := m.answering()
	if err == nil && (bus < 0 || bus >= controllers) {
		err = fmt.Errorf("allowed are 0 to %d: %w", controllers-1, mooring.ErrInvalid)
	}
	if err == nil {
		err = p.qmp.do(ctx, "device_add", args{"driver": "pvscsi", "id": controllerID(bus), "bus": "pci.0", "addr": fmt.Sprintf("%#x", controllerSlot(bus))})
	}
	if err != nil {
		return fmt.Errorf("add controller %d: %w", bus, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.controllers[bus] = true
	return nil
}

// RemoveController takes the controller away, which has no disks by then. A guest whose kernel does not let it go keeps it: then the error wraps
// [mooring.ErrUnavailable].
func (m *Machine) RemoveController(ctx context.Context, bus int) error {
	p, err := m.answering()
	if err == nil {
		err = p.remove(ctx, controllerID(bus), leaveWithin)
	}
	if err != nil {
		return fmt.Errorf("remove controller %d: %w", bus, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.controllers, bus)
	return nil
}
