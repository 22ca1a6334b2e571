package esx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// temporaryName matches what [Host.write] adds to the name of a file.
var temporaryName = regexp.MustCompile(`^\.[0-9a-f]{16}\.tmp$`)

// Create makes the volume's disk: the sidecar as intent first, exclusively among all hosts, then the VMDK with the profile in one task,
// then the sidecar with the disk's UUID. An existing disk is adopted if the options that the user gave agree with it; otherwise the error wraps
// [mooring.ErrExists] and names each difference. An unfinished create, of this host or another, is completed.
func (h *Host) Create(ctx context.Context, spec mooring.Spec, given mooring.Given) (mooring.Volume, error) {
	var none mooring.Volume
	p, err := h.place(ctx)
	if err != nil {
		return none, err
	}
	f, err := h.look(ctx, p, spec.Name)
	if errors.Is(err, mooring.ErrNotFound) {
		if err = h.make(ctx, p, spec); err == nil {
			f, err = h.look(ctx, p, spec.Name)
		}
	}
	if err != nil {
		return none, err
	}
	if f, err = h.complete(ctx, p, f); err != nil {
		return none, err
	}
	return f.volume(), differences(f.volume(), spec, given)
}

// differences returns an error that names each option that the user gave and the volume does not have.
func differences(vol mooring.Volume, spec mooring.Spec, given mooring.Given) error {
	var list []string
	differ := func(given bool, option, has, asked string) {
		if given && has != asked {
			if has == "" {
				has = "unknown"
			}
			list = append(list, fmt.Sprintf("%s is %s, asked for is %s", option, has, asked))
		}
	}
	size := ""
	if vol.Size > 0 {
		size = vol.Size.String()
	}
	differ(given.Size, "size", size, spec.Size.String())
	differ(given.FSType, "fstype", string(vol.FSType), string(spec.FSType))
	differ(given.Policy, "storage policy", string(vol.Policy), string(spec.Policy))
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf("volume %s on %s: %s: %w", vol.Name, vol.Backing.Datastore(), strings.Join(list, "; "), mooring.ErrExists)
}

// make writes the intent and makes the disk. That somebody else has made it meanwhile is no error.
func (h *Host) make(ctx context.Context, p *place, spec mooring.Spec) error {
	vol := mooring.Volume{
		Spec: spec, Backing: p.backing(h.where.Group, spec.Name),
		FSUUID: newFSUUID(), Format: mooring.FormatNone, Created: now(), CreatedBy: p.vm.Name,
	}
	if spec.Policy != "" {
		profile, err := h.placeable(ctx, p, spec.Policy)
		if err != nil {
			return err
		}
		vol.Profile = profile
	}
	if err := h.makeFolder(ctx, p, vol.Backing.Folder()); err != nil {
		return err
	}
	theirs, err := h.declare(ctx, p, vol)
	if err != nil || theirs {
		return err
	}
	err = h.createDisk(ctx, p, vol)
	if err == nil || isExists(err) {
		return nil
	}
	if c := classOf(err); c == permanent || c == unforeseen && ctx.Err() == nil {
		err = errors.Join(err, h.withdraw(ctx, p, vol))
	}
	return err
}

// declare writes the intent. An intent of another host may be alive: its disk is waited for. What else lies there without a disk is old, and gives way; theirs tells
// that there is a disk by now.
func (h *Host) declare(ctx context.Context, p *place, vol mooring.Volume) (theirs bool, err error) {
	sidecar := sidecarOf(vol.Backing)
	for range readAttempts {
		if err = h.writeSidecar(ctx, p, vol, false); err == nil || !isExists(err) {
			return false, err
		}
		content, err := h.download(ctx, p, sidecar)
		if errors.Is(err, mooring.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		old, unreadable := decodeSidecar(content)
		alive := unreadable == nil && old.Disk == "" && old.CreatedBy != p.vm.Name
		if theirs, err := h.appears(ctx, p, vol.Name, alive); theirs || err != nil {
			return theirs, err
		}
		if err := h.discard(ctx, p, sidecar, content); err != nil {
			return false, err
		}
	}
	return true, nil // other hosts are at it; what they have made is looked at next
}

// appears tells whether there is a disk, waiting for it where somebody may be making it.
func (h *Host) appears(ctx context.Context, p *place, name mooring.Name, wait bool) (appeared bool, err error) {
	err = h.await(ctx, func() (bool, error) {
		_, err := h.look(ctx, p, name)
		if errors.Is(err, mooring.ErrNotFound) {
			return !wait, nil
		}
		appeared = err == nil
		return appeared, err
	})
	return appeared, err
}

// discard removes a sidecar if it still has that content: it is taken away first, which only one host can, and put back if it is another by now.
func (h *Host) discard(ctx context.Context, p *place, sidecar mooring.Backing, content []byte) error {
	aside := mooring.Backing(fmt.Sprintf("%s.%s.tmp", sidecar, randomHex()))
	if err := h.move(ctx, p, sidecar, aside, false); err != nil {
		if classOf(err) == done { // another host was faster
			return nil
		}
		return err
	}
	taken, err := h.download(ctx, p, aside)
	if err == nil && bytes.Equal(taken, content) {
		return h.deleteFile(ctx, p, aside)
	}
	return errors.Join(err, h.move(ctx, p, aside, sidecar, false))
}

// await asks until the answer is yes or another host has had time enough.
func (h *Host) await(ctx context.Context, ask func() (bool, error)) error {
	for end := time.Now().Add(h.intentLimit); ; {
		yes, err := ask()
		if yes || err != nil || time.Now().After(end) {
			return err
		}
		if err := pause(ctx, h.intentPoll); err != nil {
			return explain(err)
		}
	}
}

// complete writes the disk's UUID into an intent that lacks it. Where the intent is another host's, that host is given time to do it itself: it
// may have the disk attached, and its sidecar is then its own to write.
func (h *Host) complete(ctx context.Context, p *place, f found) (found, error) {
	unfinished := func() bool { return f.sidecar != nil && f.sidecar.Disk == "" }
	if unfinished() && f.sidecar.CreatedBy != p.vm.Name {
		err := h.await(ctx, func() (_ bool, err error) {
			f.sidecar, err = h.believable(ctx, p, f)
			return !unfinished(), err
		})
		if err != nil {
			return f, err
		}
	}
	for attempt := 1; unfinished() && attempt <= readAttempts; attempt++ {
		vol := f.volume()
		err := h.writeSidecar(ctx, p, vol, true)
		if err == nil {
			f.sidecar, err = h.believable(ctx, p, f)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// createDisk makes the VMDK. When vCenter is lost on the way, the datastore says whether it has been made.
func (h *Host) createDisk(ctx context.Context, p *place, vol mooring.Volume) error {
	dc := p.dc.Reference()
	req := types.CreateVirtualDisk_Task{
		This: *p.client.ServiceContent.VirtualDiskManager, Name: string(vol.Backing), Datacenter: &dc, Spec: diskSpec(vol),
	}
	for attempt := 1; ; attempt++ {
		res, err := methods.CreateVirtualDisk_Task(ctx, p.client, &req)
		if err == nil {
			_, err = h.session.wait(ctx, p.client, res.Returnval)
		}
		c := classOf(err)
		switch {
		case err == nil:
			return nil
		case attempt < readAttempts && (c == busy || c == unknown) && !errors.Is(err, errStalled) && ctx.Err() == nil:
			if err := pause(ctx, readPause); err != nil {
				return explain(err)
			}
			if _, err := h.look(ctx, p, vol.Name); err == nil {
				return nil
			}
		default:
			return fmt.Errorf("make %s: %w", vol.Backing, explain(err))
		}
	}
}

// withdraw removes our own intent after the disk could not be made.
func (h *Host) withdraw(ctx context.Context, p *place, vol mooring.Volume) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerLimit)
	defer cancel()
	old, err := h.readSidecar(ctx, p, sidecarOf(vol.Backing))
	if err != nil || old.FSUUID != vol.FSUUID {
		return nil // gone already, or another's by now
	}
	return h.deleteFile(ctx, p, sidecarOf(vol.Backing))
}
