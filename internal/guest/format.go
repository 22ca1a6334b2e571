package guest

import (
	"context"
	"fmt"

	"github.com/mooring-sh/mooring"
)

// format makes the filesystem. The intent is recorded first: what a killed mkfs leaves must be known for what it is.
func (o *opening) format(ctx context.Context) error {
	mkfs, err := mkfsCommand(o.vol, o.dev)
	if err != nil {
		return err
	}
	if o.vol.Format != mooring.Formatting {
		if err := o.journal.SetFormat(ctx, mooring.Formatting); err != nil {
			return fmt.Errorf("record that formatting begins: %w", err)
		}
	}
	o.journal.Progress("formatting", 0)
	r, err := o.run(ctx, mkfs)
	if err == nil && r.code != 0 {
		err = r.failure()
	}
	if err != nil {
		return fmt.Errorf("format %s: %w", o.dev, err)
	}
	o.journal.Progress("formatting", 100)
	o.content = Content{Kind: Filesystem, Type: string(o.vol.FSType), UUID: o.vol.FSUUID}
	o.fresh = true
	return nil
}

// mkfsCommand returns the command that makes the volume's filesystem. Nothing is discarded: the disk was found empty, and on vSAN a discard of all of it takes minutes.
// The force options are for what a killed mkfs left; neither makes the command touch a device that is mounted or opened exclusively.
func mkfsCommand(vol mooring.Volume, dev string) (command, error) {
	switch vol.FSType {
	case mooring.Ext4:
		return command{name: "mkfs.ext4", args: []string{"-q", "-F", "-E", "nodiscard", "-U", string(vol.FSUUID), dev}}, nil
	case mooring.XFS:
		return command{name: "mkfs.xfs", args: []string{"-q", "-f", "-K", "-m", "uuid=" + string(vol.FSUUID), dev}}, nil
	default:
		return command{}, fmt.Errorf("format %s: filesystem %q: allowed are %v: %w", dev, vol.FSType, mooring.FSTypes(), mooring.ErrInvalid)
	}
}
