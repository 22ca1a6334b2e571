package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	qemu = "qemu-system-x86_64"
	// prepared is what the guest writes on its console when the first boot has done what it is for.
	prepared = "mooring-lab: prepared"
	// prepareLimit is for a slow machine; the first boot takes about a minute in software emulation.
	prepareLimit = 15 * time.Minute
)

// prepare boots the image once. The guest loads Docker's images, runs a container and powers itself off; a panic ends it too.
func (b builder) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, prepareLimit, errors.New("the guest has not powered itself off"))
	defer cancel()
	console := filepath.Join(b.dir, consoleFile)
	err := b.run(ctx, qemu,
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", MachineType, "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", "2", "-m", "1024",
		"-kernel", filepath.Join(b.dir, kernelFile), "-initrd", filepath.Join(b.dir, initrdFile),
		"-append", appendLine+" mooring.prepare panic=-1",
		"-chardev", "file,id=console,path="+console, "-serial", "chardev:console",
		"-drive", "if=none,id=root,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file="+filepath.Join(b.dir, rootFile),
		"-device", "virtio-blk-pci,drive=root",
		"-device", "virtio-rng-pci",
	)
	said, readErr := os.ReadFile(console)
	if err = errors.Join(err, readErr); err == nil && !bytes.Contains(said, []byte(prepared)) {
		err = errors.New("the guest ended before it was prepared")
	}
	if err != nil {
		return fmt.Errorf("%w; its console: %s", err, bytes.TrimSpace(said[max(0, len(said)-tailSize):]))
	}
	return nil
}
