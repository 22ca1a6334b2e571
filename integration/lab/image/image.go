// Package image makes what the lab's virtual machines boot from: a kernel, an initramfs and a root filesystem with systemd and Docker Engine, all of
// it from Debian's packages.
//
// It promises that an image is either whole or absent: it is built beside the cache's images and renamed into place after a first boot in which Docker
// Engine ran a container. An image whose recipe changed is built anew. A build that was interrupted leaves no mounts, and its files go with the next one.
//
// It never installs anything on this machine, and what it mounts is seen by its own processes only.
package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/mooring-sh/mooring/integration/lab/cache"
)

// Suite is a release of Debian.
type Suite string

// The releases that there are images of, with the Docker Engine that each brings.
const (
	Trixie   Suite = "trixie"   // Debian 13, Docker 26
	Bookworm Suite = "bookworm" // Debian 12, Docker 20.10
)

// How QEMU runs the images best. Measured in software emulation with QEMU 7.2.
const (
	// MachineType is the machine, which must let PCI devices be plugged in.
	MachineType = "pc,vmport=off,usb=off"
	// CPU is the processor in software emulation. With CMPXCHG16B in sight five boots of six under QEMU 7.2 died of faults that made no sense, the
	// registers showing random flags; without it none did. So the guest must not see it: the kernel would allocate memory with it. A boot to Docker's
	// first answer took 18.5 s with this one and 21.8 s with "max", one run each, nothing else running on two cores.
	CPU = "Nehalem,-cx16,+rdrand"
)

// appendLine is the kernel's command line. A panic stays, for the lab to find. The guest is not guarded against itself, which takes an emulated processor
// long. A machine that is busy with other things seems to the guest to have a timer that does not work and a clock that goes wrong: it is to believe both.
const appendLine = "console=ttyS0 root=/dev/vda rw net.ifnames=0 panic=0 quiet no_timer_check tsc=reliable random.trust_cpu=on 8250.nr_uarts=1 " +
	"mitigations=off init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off lsm=yama audit=0 cryptomgr.notests"

// Options says which image, and where.
type Options struct {
	Suite  Suite
	Cache  string    // directory; empty means [cache.Default]
	Mirror string    // of Debian; empty means $MOORING_LAB_MIRROR, else deb.debian.org
	Say    io.Writer // is told how a build goes on, line by line; nil: nobody
}

// Image is what a virtual machine boots from. Its files belong to the cache: a machine gets a copy of Root.
type Image struct {
	Kernel string // bzImage
	Initrd string // a cpio archive, to which another may be appended: /mooring-agent in it is put in the guest's /run
	Root   string // raw, sparse, ext4 without partitions; becomes /dev/vda
	Append string // the kernel's command line, to which mooring.name= and mooring.ip= may be added
	Key    string // tells apart what different recipes make
}

// Get returns the image, from the cache if it was built before; a build takes minutes, the network and root's rights. Builders of the same suite wait for
// each other.
func Get(ctx context.Context, o Options) (Image, error) {
	r, err := newRecipe(o.Suite)
	if err != nil {
		return Image{}, err
	}
	key, err := r.key()
	if err != nil {
		return Image{}, err
	}
	if o.Say == nil {
		o.Say = io.Discard
	}
	if o.Cache == "" {
		o.Cache = cache.Default()
	}
	if o.Mirror == "" {
		o.Mirror = os.Getenv("MOORING_LAB_MIRROR")
	}
	if o.Mirror == "" {
		o.Mirror = "http://deb.debian.org/debian"
	}
	dir, err := filepath.Abs(o.Cache)
	if err != nil {
		return Image{}, err
	}
	images := cache.Cache{Dir: dir, Say: o.Say}
	home, err := images.Get(ctx, string(o.Suite), key, func(ctx context.Context, scratch string) error {
		b := builder{recipe: r, mirror: o.Mirror, dir: scratch, talk: newTalk(o.Say, string(o.Suite))}
		return b.build(ctx)
	})
	if err != nil {
		return Image{}, fmt.Errorf("get the image of %s: %w", o.Suite, err)
	}
	return Image{
		Kernel: filepath.Join(home, kernelFile), Initrd: filepath.Join(home, initrdFile), Root: filepath.Join(home, rootFile),
		Append: appendLine, Key: key,
	}, nil
}
