package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

const (
	control   = "/dev/loop-control"
	loopMajor = 7
	attempts  = 64 // others take free loop devices too
)

func device(n int) string { return "/dev/loop" + strconv.Itoa(n) }

// attach binds the file to a free loop device, which is cleared when its last descriptor is closed, and returns the first of them.
func attach(ctx context.Context, file string) (*os.File, int, error) {
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = backing.Close() }()
	ctl, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = ctl.Close() }()
	for range attempts {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, 0, fmt.Errorf("find a free loop device: %w", err)
		}
		f, err := openDevice(n)
		if err != nil {
			return nil, 0, err
		}
		err = unix.IoctlLoopConfigure(int(f.Fd()), &unix.LoopConfig{
			Fd: uint32(backing.Fd()), Size: 512,
			Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR, File_name: fileName(file)},
		})
		if err == nil {
			return f, n, nil
		}
		_ = f.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, 0, fmt.Errorf("configure %s: %w", device(n), err)
		}
	}
	return nil, 0, fmt.Errorf("configure a loop device: %w", unix.EBUSY)
}

// fileName is what losetup shows.
func fileName(file string) [64]uint8 {
	var b [64]uint8
	copy(b[:63], file)
	return b
}

// openDevice opens the loop device, making its node where nothing else does (no udev, no devtmpfs).
func openDevice(n int) (*os.File, error) {
	f, err := os.OpenFile(device(n), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err := unix.Mknod(device(n), unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make node %s: %w", device(n), err)
		}
		return os.OpenFile(device(n), os.O_RDWR, 0)
	}
	return f, err
}

// mountsOf returns where the loop device is mounted, in any mount namespace that a process lives in.
func mountsOf(n int) ([]string, error) {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var out []string
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		ns, err := os.Readlink("/proc/" + p.Name() + "/ns/mnt")
		if err != nil || seen[ns] {
			continue // gone by now, or known
		}
		mounts, err := namespaceMounts(pid)
		if err != nil {
			continue
		}
		seen[ns] = true
		for _, m := range mounts {
			if m.Major == loopMajor && m.Minor == n {
				out = append(out, fmt.Sprintf("pid %d: %s", pid, m.Mountpoint))
			}
		}
	}
	return out, nil
}

// namespaceMounts lists the mounts that the process sees.
func namespaceMounts(pid int) ([]*mountinfo.Info, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return mountinfo.GetMountsFromReader(f, nil)
}
