//go:build machines

package image_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/integration/lab/image"
)

// bootLimit is for a machine that does other things besides; the boot itself takes a tenth of it.
const bootLimit = 5 * time.Minute

// console is a guest's serial line.
type console struct {
	in io.Writer

	mu   sync.Mutex
	said bytes.Buffer
	more chan struct{} // has an item when something was said since somebody looked
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
	return c.said.Write(p)
}

// await returns what was said once the pattern is in it, with the pattern's groups.
func (c *console) await(ctx context.Context, t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		c.mu.Lock()
		said := c.said.String()
		c.mu.Unlock()
		if found := re.FindStringSubmatch(said); found != nil {
			return found
		}
		select {
		case <-c.more:
		case <-ctx.Done():
			t.Fatalf("the guest has not said %s:\n%s", pattern, said)
		}
	}
}

// Each suite's image must be what its name says, without the network: a Docker Engine of its version, the images, tools to make filesystems, and a link for
// a disk by its UUID.
func TestImageBootsToDocker(t *testing.T) {
	for suite, docker := range map[image.Suite]string{image.Trixie: "26.", image.Bookworm: "20.10."} {
		t.Run(string(suite), func(t *testing.T) {
			img, err := image.Get(t.Context(), image.Options{Suite: suite, Say: t.Output()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
			defer cancel()
			c := boot(ctx, t, img)
			c.await(ctx, t, `root@docker9:`)
			if _, err := io.WriteString(c.in, strings.Join([]string{
				// It is answered when Docker has started, as docker.socket holds the request.
				`docker info --format 'engine={{.ServerVersion}} driver={{.Driver}} cgroups={{.CgroupVersion}} images={{.Images}}'`,
				`echo ready=$(cut -d' ' -f1 /proc/uptime)`,
				`docker run --rm busybox:lab echo container=$((40+2))`,
				`docker run --rm registry:lab registry --version`,
				`docker-compose version`,
				`mkfs.xfs -V; mkfs.ext4 -V 2>&1; dpkg --audit && echo dpkg=$((40+2))`,
				`echo processors=$(nproc)`,
				`echo eth1=$(ip -color=never -4 -o address show eth1)`,
				`echo link=$(basename $(readlink /dev/disk/by-id/wwn-0x6000c29012345678abcdef0123456789))`,
				`echo state=$(systemctl is-system-running --wait); systemctl --failed --no-legend; systemd-analyze --no-pager; systemd-analyze --no-pager blame | head -20`,
				`echo end=$((40+2))`, "",
			}, "\n")); err != nil {
				t.Fatal(err)
			}
			said := c.await(ctx, t, `(?s).*end=42`)[0]
			t.Log(said)
			for _, want := range []string{
				"engine=" + docker, "driver=overlay2 cgroups=2 images=2", "container=42", "(?i)registry.* v?2\\.8", "(?i)compose version", "mkfs.xfs version",
				"mke2fs 1", "dpkg=42", "processors=2", `eth1=.*inet 10\.77\.0\.9/24`, "link=sda", "state=running",
			} {
				if !regexp.MustCompile(want).MatchString(said) {
					t.Errorf("the guest has not said %q", want)
				}
			}
		})
	}
}

// boot starts a machine with a copy of the image, and a disk on an emulated PVSCSI controller.
func boot(ctx context.Context, t *testing.T, img image.Image) *console {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-no-user-config", "-nodefaults", "-display", "none", "-machine", image.MachineType, "-accel", "tcg,thread=multi", "-cpu", image.CPU,
		"-smp", "2", "-m", "1024", "-kernel", img.Kernel, "-initrd", img.Initrd, "-append", img.Append+" maxcpus=1 mooring.name=docker9 mooring.ip=10.77.0.9",
		"-chardev", "stdio,id=console", "-serial", "chardev:console",
		"-drive", "if=none,id=root,format=raw,snapshot=on,file="+img.Root, "-device", "virtio-blk-pci,drive=root",
		"-netdev", "user,id=vcenter,restrict=on", "-device", "virtio-net-pci,netdev=vcenter,romfile=",
		"-netdev", "user,id=guests,restrict=on", "-device", "virtio-net-pci,netdev=guests,romfile=",
		"-device", "pvscsi,id=pvscsi0", "-drive", "if=none,id=disk,format=raw,file="+disk,
		"-device", "scsi-hd,bus=pvscsi0.0,scsi-id=3,drive=disk,serial=6000c29012345678abcdef0123456789",
		"-device", "virtio-rng-pci",
	)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &console{in: in, more: make(chan struct{}, 1)}
	cmd.Stdout, cmd.Stderr = c, c
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return c
}
