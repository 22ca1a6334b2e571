// Package loop is the guest "this machine": a disk that is plugged in becomes a loop device over the disk's extent,
// with the link /dev/disk/by-id/wwn-0x<uuid> that a guest of vSphere has when disk.EnableUUID is set.
//
// It promises that a loop device never outlives both the lab and its users: the kernel clears it when the last
// descriptor is closed, also when the lab is killed. Links are recorded, and those that a killed lab left are removed
// at the next start: a link to a loop device that is used for something else by now would be a lie about whose data it holds.
//
// It never refuses to take a disk away: hardware does not ask. A disk that was mounted at that moment is recorded as a [Violation].
package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/integration/lab/vcenter"
)

// LinkDir is where guests look for disks by UUID.
const LinkDir = "/dev/disk/by-id"

// Violation is a disk that was taken away while a mount namespace had it mounted.
type Violation struct {
	UUID   string   `json:"uuid"`
	Device string   `json:"device"`
	Mounts []string `json:"mounts"` // "pid 12: /mnt/web"
}

// Guest is this machine.
type Guest struct {
	links  string // directory of the links
	record string // file that lists them
	log    *slog.Logger

	mu         sync.Mutex
	disks      map[string]*plugged // by UUID
	violations []Violation
}

type plugged struct {
	file   *os.File // the loop device; the kernel clears it when this and all other descriptors are closed
	number int
	link   string
}

// New returns the guest after removing the links that an earlier one recorded in dir and left behind.
func New(dir string, links string, log *slog.Logger) (*Guest, error) {
	if links == "" {
		links = LinkDir
	}
	g := &Guest{links: links, record: filepath.Join(dir, "links"), log: log, disks: map[string]*plugged{}}
	if err := g.sweep(); err != nil {
		return nil, fmt.Errorf("remove stale links: %w", err)
	}
	if err := os.MkdirAll(links, 0o755); err != nil { //nolint:gosec // everybody looks for disks there
		return nil, fmt.Errorf("make link directory: %w", err)
	}
	return g, nil
}

// sweep removes the recorded links.
func (g *Guest) sweep() error {
	b, err := os.ReadFile(g.record)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for link := range strings.FieldsSeq(string(b)) {
		if filepath.Dir(link) != g.links {
			continue // another lab's place; its record came here with a copied directory
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Remove(g.record)
}

// writeRecord lists the links. The caller holds g.mu.
func (g *Guest) writeRecord(extra string) error {
	var b strings.Builder
	for _, p := range g.disks {
		b.WriteString(p.link + "\n")
	}
	if extra != "" {
		b.WriteString(extra + "\n")
	}
	return os.WriteFile(g.record, []byte(b.String()), 0o600)
}

// Plug makes a loop device over the disk's extent and links it. A disk that is there already stays as it is.
func (g *Guest) Plug(ctx context.Context, d vcenter.Disk) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.disks[d.UUID] != nil {
		return nil
	}
	link := filepath.Join(g.links, "wwn-0x"+strings.ReplaceAll(d.UUID, "-", ""))
	if err := g.writeRecord(link); err != nil { // before the link, so that a killed lab never leaves one that nobody knows
		return fmt.Errorf("record link: %w", err)
	}
	f, n, err := attach(ctx, d.Extent)
	if err != nil {
		return fmt.Errorf("make loop device: %w", err)
	}
	if err := g.relink(link, device(n)); err != nil {
		return errors.Join(fmt.Errorf("link: %w", err), f.Close())
	}
	g.disks[d.UUID] = &plugged{file: f, number: n, link: link}
	g.log.Debug("disk plugged", "disk", d.UUID, "backing", d.Backing, "device", device(n))
	return nil
}

// relink makes the link to the device that was just made, the only one: any other link to it was left by a lab that was killed, and would say
// that another disk is there.
func (g *Guest) relink(link, device string) error {
	target, err := filepath.Rel(g.links, device)
	if err != nil {
		return err
	}
	links, err := filepath.Glob(filepath.Join(g.links, "wwn-0x*"))
	if err != nil {
		return err
	}
	for _, other := range links {
		if to, err := os.Readlink(other); err != nil || to != target && other != link {
			continue // gone meanwhile, or another device's
		}
		if err := os.Remove(other); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Symlink(target, link)
}

// Unplug takes link and loop device away. While somebody else has the device open the kernel keeps it, for them alone.
func (g *Guest) Unplug(_ context.Context, d vcenter.Disk) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.disks[d.UUID]
	if p == nil {
		return nil
	}
	return g.drop(d.UUID, p)
}

// drop removes one disk. The caller holds g.mu.
func (g *Guest) drop(uuid string, p *plugged) error {
	mounts, err := mountsOf(p.number)
	if err != nil {
		g.log.Warn("mounts could not be read", "device", device(p.number), "err", err)
	}
	if len(mounts) > 0 {
		g.violations = append(g.violations, Violation{UUID: uuid, Device: device(p.number), Mounts: mounts})
		g.log.Warn("disk taken away while mounted", "disk", uuid, "device", device(p.number), "mounts", strings.Join(mounts, ", "))
	}
	delete(g.disks, uuid)
	err = os.Remove(p.link)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, p.file.Close(), g.writeRecord(""))
	g.log.Debug("disk unplugged", "disk", uuid, "device", device(p.number))
	return err
}

// Close takes every disk away, without counting those that are mounted as violations: the machine is going down. What is still
// mounted keeps its device until it is unmounted.
func (g *Guest) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.violations
	var errs []error
	for uuid, p := range g.disks {
		errs = append(errs, g.drop(uuid, p))
	}
	g.violations = before
	if err := os.Remove(g.record); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Violations returns the disks that were taken away while mounted.
func (g *Guest) Violations() []Violation {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Violation(nil), g.violations...)
}

// Devices returns the device node of every disk that is plugged, by UUID.
func (g *Guest) Devices() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[string]string{}
	for uuid, p := range g.disks {
		out[uuid] = device(p.number)
	}
	return out
}

// Grow makes the disk's device as large as its extent is by now.
func (g *Guest) Grow(_ context.Context, d vcenter.Disk) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.disks[d.UUID]
	if p == nil {
		return nil
	}
	if err := unix.IoctlSetInt(int(p.file.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("grow %s: %w", device(p.number), err)
	}
	return nil
}
