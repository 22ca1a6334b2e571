package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
)

// checkIfAsked checks the filesystem if its superblock asks for that. After a host's death it does not: its mount replays the journal, as XFS replays its log, and e2fsck would do no more. It would write
// to the device, though, upon which udev looks at the disk once more.
func (o *opening) checkIfAsked(ctx context.Context) error {
	if !strings.HasPrefix(o.content.Type, "ext") {
		o.checked = true
		return nil
	}
	asks, err := asksForCheck(o.dev, time.Now())
	if err != nil || !asks {
		return err
	}
	o.checked = true
	return o.check(ctx, o.vol, o.dev, o.journal)
}

// mountChecked mounts the filesystem. One that was not checked is, after all, if the kernel does not mount it, or has found in the journal that it had seen errors.
func (o *opening) mountChecked(ctx context.Context) error {
	err := o.mount(ctx, o.vol, o.dev, o.dir, o.content.Type)
	if o.checked || err != nil && !errors.Is(err, mooring.ErrCorrupt) {
		return err
	}
	if err == nil {
		wrong, err := hasErrors(o.dev)
		if err == nil && !wrong {
			return nil
		}
		if err := errors.Join(err, o.unmount(o.dir)); err != nil {
			return err
		}
	}
	if err := o.check(ctx, o.vol, o.dev, o.journal); err != nil {
		return err
	}
	return o.mount(ctx, o.vol, o.dev, o.dir, o.content.Type)
}

// check checks an ext filesystem and repairs what can be repaired without a person. The error wraps [mooring.ErrCorrupt], naming the command, when a person is wanted. XFS has no such
// check: xfs_repair looks only when a mount fails.
func (g *Guest) check(ctx context.Context, vol mooring.Volume, dev string, j Journal) error {
	r, err := g.fsck(ctx, dev, func(percent int) { j.Progress("checking", percent) })
	if err != nil {
		return fmt.Errorf("check %s: %w", dev, err)
	}
	// e2fsck(8), "EXIT CODE": 1 and 2 mean that everything was repaired.
	if r.code >= 4 {
		return damaged(vol, dev, "e2fsck -f", r.failure())
	}
	return nil
}

// DamagedError is the error of a filesystem that a person has to repair, on the device that the hint names. It wraps [mooring.ErrCorrupt].
type DamagedError struct{ *mooring.HintError }

// Unwrap returns the error with its hint.
func (e *DamagedError) Unwrap() error { return e.HintError }

// damaged is the error of a filesystem that a person has to repair, with the command for it.
func damaged(vol mooring.Volume, dev, command string, cause error) error {
	return &DamagedError{&mooring.HintError{
		Err:  fmt.Errorf("the filesystem of volume %s is damaged and was not mounted: %s: %w: %w", vol.Name, dev, cause, mooring.ErrCorrupt),
		Hint: command + " " + dev + ", then start its containers again",
	}}
}

// fsck runs e2fsck and tells progress how far it has come.
func (g *Guest) fsck(ctx context.Context, dev string, progress func(percent int)) (r result, err error) {
	read, write, err := os.Pipe()
	if err != nil {
		return result{}, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { readProgress(read, progress) })
	r, err = g.run(ctx, command{name: "e2fsck", args: []string{"-p", "-C", "3", dev}, fd3: write})
	err = errors.Join(err, write.Close()) // the reader ends
	wg.Wait()
	return r, errors.Join(err, read.Close())
}

// readProgress reads what e2fsck -C writes, a line "pass now max device" now and then, until the end. Each change of percent is told once.
func readProgress(r io.Reader, progress func(percent int)) {
	last := -1
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if percent, ok := percentDone(lines.Text()); ok && percent != last {
			last = percent
			progress(percent)
		}
	}
}

// percentDone weighs the passes as e2fsck's own bar does (e2fsck/unix.c, e2fsck_tbl).
func percentDone(line string) (int, bool) {
	weights := [...]int{0, 70, 90, 92, 95, 100}
	var pass, now, end int
	if n, err := fmt.Sscan(line, &pass, &now, &end); n < 3 || err != nil {
		return 0, false
	}
	if pass < 1 || pass >= len(weights) || end <= 0 || now < 0 || now > end {
		return 0, false
	}
	from, to := weights[pass-1], weights[pass]
	return from + (to-from)*now/end, true
}
