package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mooring-sh/mooring"
)

// Kind says what sort of thing was found on a disk.
type Kind int

// What may be found on a disk.
const (
	// Nothing at all: no signature, and zeros in the first and the last MiB.
	Nothing Kind = iota
	// Unexplained bytes that no signature accounts for.
	Unexplained
	// Filesystem of a type and UUID.
	Filesystem
	// Foreign: a partition table, a member of a volume group or array, an encrypted disk, swap, or more than one signature.
	Foreign
)

// Content is what was found on a disk.
type Content struct {
	Kind Kind
	Type string         // of a Filesystem, as the kernel calls it
	UUID mooring.FSUUID // of a Filesystem
	What string         // of Foreign, for people
}

// String says what was found, for people: "an ext4 filesystem with UUID ...".
func (c Content) String() string {
	switch c.Kind {
	case Nothing:
		return "nothing"
	case Unexplained:
		return "data without a known signature"
	case Filesystem:
		return fmt.Sprintf("a filesystem (%s, UUID %s)", c.Type, c.UUID)
	default:
		return c.What
	}
}

// edge is how much of the disk's beginning and end is read where blkid finds nothing.
const edge = 1 << 20

// Probe says what is on the device. It reads only.
func (g *Guest) Probe(ctx context.Context, dev string) (Content, error) {
	// Opened first: blkid says the same of a device that it cannot read and of one with nothing on it.
	f, err := os.Open(dev)
	if err != nil {
		return Content{}, fmt.Errorf("probe: %w", err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Content{}, fmt.Errorf("probe: %w", err)
	}
	if size == 0 {
		return Content{}, fmt.Errorf("probe %s: it has no size, so no disk is behind it any more: %w", dev, mooring.ErrUnavailable)
	}
	r, err := g.run(ctx, command{name: "blkid", args: []string{"-p", "-o", "export", dev}})
	if err != nil {
		return Content{}, fmt.Errorf("probe %s: %w", dev, err)
	}
	c, err := interpret(r)
	if err != nil {
		return Content{}, fmt.Errorf("probe %s: %w", dev, err)
	}
	if c.Kind != Nothing {
		return c, nil
	}
	for _, at := range []int64{0, max(0, size-edge)} {
		zero, err := zeros(io.NewSectionReader(f, at, min(edge, size)))
		if err != nil {
			return Content{}, fmt.Errorf("probe %s: %w", dev, err)
		}
		if !zero {
			return Content{Kind: Unexplained}, nil
		}
	}
	return Content{}, nil
}

func zeros(r io.Reader) (bool, error) {
	b, err := io.ReadAll(r)
	return len(bytes.Trim(b, "\x00")) == 0, err
}

// interpret reads what blkid -p -o export answered (blkid(8), "EXIT STATUS").
func interpret(r result) (Content, error) {
	switch r.code {
	case 0:
	case 2:
		return Content{}, nil
	case 8:
		return Content{Kind: Foreign, What: "more than one signature"}, nil
	default:
		return Content{}, r.failure()
	}
	found := make(map[string]string)
	for line := range strings.Lines(r.out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		found[key] = value
	}
	switch {
	case found["TYPE"] != "" && found["USAGE"] == "filesystem":
		return Content{Kind: Filesystem, Type: found["TYPE"], UUID: mooring.FSUUID(strings.ToLower(found["UUID"]))}, nil
	case found["TYPE"] != "":
		return Content{Kind: Foreign, What: fmt.Sprintf("a signature of type %s (%s)", found["TYPE"], found["USAGE"])}, nil
	case found["PTTYPE"] != "":
		return Content{Kind: Foreign, What: "a partition table (" + found["PTTYPE"] + ")"}, nil
	default:
		return Content{}, errors.New("blkid found something and does not say what: " + r.out)
	}
}
