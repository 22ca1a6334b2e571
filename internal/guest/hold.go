package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
)

// Hold proves that nobody has the disk and keeps it so until the returned closer is closed: while the descriptor is open, no mount
// namespace can mount the device. It is kept across the detach. The errors wrap [mooring.ErrInUse] when any mount namespace, or another
// exclusive opener, has the device, naming those that can be told, and [mooring.ErrNotFound] when the guest does not see the disk.
func (g *Guest) Hold(id mooring.DiskID) (io.Closer, error) {
	dev, err := g.find(id)
	if err != nil {
		return nil, err
	}
	f, err := openExclusively(dev)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("hold %s: it is taken%s: %w", dev, g.deviceUsers(dev), mooring.ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("hold: %w", err)
	}
	return f, nil
}

// openExclusively opens the device for reading; EBUSY says that it is mounted in some namespace or opened exclusively by somebody else
// (open(2), O_EXCL on a block device).
func openExclusively(dev string) (*os.File, error) {
	return os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
}

// unseenPolls is how often in a row a device must be found taken by nobody that can be seen, before that is believed: who has just ended
// is no longer seen, and its file not yet closed.
const unseenPolls = 5

// awaitFree waits while another process has the device exclusively: an mkfs or fsck that outlived the plugin that started it. It
// reports whether the device is taken all the same, because a mount namespace has it.
func (g *Guest) awaitFree(ctx context.Context, dev string) (taken bool, err error) {
	n, err := blockDevice(dev)
	if err != nil {
		return false, err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for unseen := 0; ; {
		f, err := openExclusively(dev)
		if err == nil {
			return false, f.Close()
		}
		if !errors.Is(err, unix.EBUSY) {
			return false, err
		}
		if len(g.openers(n)) > 0 {
			unseen = 0
		} else {
			unseen++
		}
		if unseen == unseenPolls || len(g.mountedElsewhere(n)) > 0 {
			return true, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, fmt.Errorf("wait for %s: it is taken%s: %w: %w", dev, g.deviceUsers(dev), mooring.ErrInUse, context.Cause(ctx))
		}
	}
}
