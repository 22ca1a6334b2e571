package guest

import (
	"context"
	"fmt"

	"github.com/mooring-sh/mooring"
)

// mkfs makes the volume's filesystem, with the UUID that was chosen for it. Only [decide] allows it.
func (g *Guest) mkfs(ctx context.Context, vol mooring.Volume, dev string) error {
	c, err := mkfsCommand(vol, dev)
	if err != nil {
		return err
	}
	r, err := g.run(ctx, c)
	if err != nil {
		return fmt.Errorf("format %s: %w", dev, err)
	}
	if r.code != 0 {
		return fmt.Errorf("format %s: %w", dev, r.failure())
	}
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
