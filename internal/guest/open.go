package guest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
)

const (
	deviceLimit = time.Minute      // for an attached disk to appear
	takenLimit  = 10 * time.Minute // for an mkfs or fsck that outlived an earlier plugin to end
)

// Journal is where the steps of formatting are written down beside the disk, and who hears how far a long step has come.
type Journal interface {
	// SetFormat records how far formatting has come. It is durable when it returns nil; until then nothing is done that relies on it.
	SetFormat(ctx context.Context, f mooring.Format) error
	// Progress says what is being done ("checking", "formatting") and how much of it, in percent. It must return at once.
	Progress(what string, percent int)
}

// Open mounts the volume on its directory and returns what Docker gets of it. Mounted already, it is verified and returned as it is. Otherwise the device is
// waited for; what is on it is compared with what the volume's sidecar says, and with formatted, by which the ledger says that the
// volume was formatted once; then it is formatted (once in its life) or checked, mounted, and looked into for the mark.
//
// ctx bounds only what waits: for the device (a minute at most), for its release by a process that an earlier plugin left, and for the journal.
// mkfs, fsck and mount run to their end. An error means that nothing that this call mounted is mounted any more. It wraps [mooring.ErrCorrupt] where a person must decide, with
// the reason and the cure, and where mkfs would have destroyed something; nothing was changed then. It wraps [mooring.ErrInUse] where somebody else has the device or the directory,
// and [mooring.ErrUnavailable] where the device did not appear.
func (g *Guest) Open(ctx context.Context, vol mooring.Volume, formatted bool, j Journal) (Opened, error) {
	dir, err := g.directory(vol.Name)
	if err != nil {
		return Opened{}, err
	}
	o := opening{Guest: g, vol: vol, dir: dir, formatted: formatted, journal: j}
	waiting, cancel := context.WithTimeout(ctx, deviceLimit)
	o.dev, err = g.Device(waiting, vol.Disk)
	cancel()
	if err != nil {
		return Opened{}, err
	}
	opened, err := o.resume(ctx)
	if err == nil || !errors.Is(err, mooring.ErrNotFound) {
		return opened, err
	}
	if err := o.prepare(ctx); err != nil {
		return Opened{}, err
	}
	if err := o.mountChecked(ctx); err != nil {
		return Opened{}, err
	}
	opened, err = o.finish(ctx)
	if err != nil {
		return Opened{}, errors.Join(err, g.unmount(dir))
	}
	return opened, nil
}

// opening is one volume being opened.
type opening struct {
	*Guest
	vol       mooring.Volume
	dir       string // the mount directory
	dev       string
	formatted bool // by the ledger or the sidecar, or because it has just been done
	journal   Journal
	content   Content
	checked   bool // what is to be mounted needs no check, or can have none
	fresh     bool // this call ran mkfs: the mark is still to be left
}

// settled reports whether somebody may have had the volume's filesystem already.
func (o *opening) settled() bool {
	return o.formatted || (o.vol.Format != mooring.FormatNone && o.vol.Format != mooring.Formatting)
}

// resume returns the volume if it is mounted already. The error wraps [mooring.ErrNotFound] if it is not. One that an earlier
// plugin mounted and died before the mark was in it is unmounted, and counts as not mounted.
func (o *opening) resume(ctx context.Context) (Opened, error) {
	m, err := mountAt(o.dir)
	if err != nil {
		return Opened{}, err
	}
	if err := o.refuseForeign(m, o.vol); err != nil {
		return Opened{}, err
	}
	in, err := lookInside(o.dir)
	if err != nil {
		return Opened{}, err
	}
	if !in.marked && !o.settled() {
		if err := o.unmount(o.dir); err != nil {
			return Opened{}, err
		}
		return Opened{}, mooring.ErrNotFound
	}
	return o.finish(ctx)
}

// prepare brings the device to where it can be mounted: formatted, or checked.
func (o *opening) prepare(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, takenLimit)
	taken, err := o.awaitFree(waiting, o.dev)
	cancel()
	if err != nil {
		return err
	}
	v, err := o.plan(ctx)
	if err != nil {
		return err
	}
	switch {
	case v.step == open && taken:
		// Another mount namespace has the filesystem, a container's of a killed dockerd perhaps: it is consistent as long as the
		// kernel has it, and a check beside it would not be.
		o.checked = true
		return nil
	case v.step == open:
		return o.checkIfAsked(ctx)
	case v.step == format && taken:
		return fmt.Errorf("format %s: it is taken%s: %w", o.dev, o.deviceUsers(o.dev), mooring.ErrInUse)
	case v.step == format:
		o.checked = true
		return o.format(ctx)
	default:
		return fmt.Errorf("open disk %s (%s): %s; %s: %w", o.vol.Disk, o.dev, v.why, v.cure, mooring.ErrCorrupt)
	}
}

// plan probes the device and decides, having looked for the mark inside if that is what it hangs on. Of a volume that was formatted once, the filesystem's own UUID at its place says
// enough: whatever else there is, which may well be what a container wrote, is the filesystem's.
func (o *opening) plan(ctx context.Context) (verdict, error) {
	var err error
	if o.content = (Content{}); o.settled() && o.vol.FSUUID != "" {
		o.content = identify(o.dev, o.vol.FSUUID)
	}
	if o.content.Kind != Filesystem {
		if o.content, err = o.Probe(ctx, o.dev); err != nil {
			return verdict{}, err
		}
	}
	s := situation{format: o.vol.Format, formatted: o.formatted, chosen: o.vol.FSUUID, content: o.content}
	v := decide(s)
	if v.step == look {
		if s.mark, err = peek(o.dev, o.content.Type); err != nil {
			return verdict{}, err
		}
		v = decide(s)
	}
	return v, nil
}

// finish verifies what is mounted, leaves the mark in a new filesystem, and says what Docker gets.
func (o *opening) finish(ctx context.Context) (Opened, error) {
	if err := o.verify(ctx); err != nil {
		return Opened{}, err
	}
	if o.fresh {
		if err := leaveMark(o.dir); err != nil {
			return Opened{}, fmt.Errorf("leave the mark in the new filesystem: %w", err)
		}
	}
	in, err := lookInside(o.dir)
	if err != nil {
		return Opened{}, err
	}
	opened, err := handOut(o.dir, in, o.vol.FSUUID != "" && o.vol.Format == mooring.FormatDone)
	if err != nil {
		return Opened{}, err
	}
	if !o.settled() {
		// Handed out before this is recorded, the data in it would rest on a sidecar that still allows mkfs.
		if err := o.journal.SetFormat(ctx, mooring.FormatDone); err != nil {
			return Opened{}, fmt.Errorf("record that formatting is done: %w", err)
		}
	}
	return opened, nil
}

// verify compares what is mounted with the volume: the device, and the filesystem's UUID where one was chosen. It comes with every start of a container, so that a process is
// started only to say what is wrong.
func (o *opening) verify(ctx context.Context) error {
	m, err := mountAt(o.dir)
	if err != nil {
		return err
	}
	if err := o.refuseForeign(m, o.vol); err != nil {
		return err
	}
	if o.vol.FSUUID == "" {
		return nil
	}
	if same, err := hasUUID(o.dev, m.FSType, o.vol.FSUUID); err == nil && same {
		return nil
	}
	c, err := o.Probe(ctx, o.dev)
	if err != nil {
		return err
	}
	if c.Kind != Filesystem || !strings.EqualFold(string(c.UUID), string(o.vol.FSUUID)) {
		return fmt.Errorf("%s on %s is to have the filesystem UUID %s, and has %s: %w", o.dev, o.dir, o.vol.FSUUID, c, mooring.ErrCorrupt)
	}
	return nil
}
