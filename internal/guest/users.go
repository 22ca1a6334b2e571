package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// users names what keeps dir from being unmounted: the processes of this mount namespace that have something open below it, and what is
// mounted below it. It is for a message, so what cannot be read is passed over.
func (g *Guest) users(dir string) []string {
	var names []string
	mine, _ := os.Readlink(filepath.Join(g.cfg.Proc, "self/ns/mnt"))
	for _, proc := range g.processes() {
		if ns, err := os.Readlink(filepath.Join(proc, "ns/mnt")); err == nil && ns == mine && opensBelow(proc, dir) {
			names = append(names, processName(proc))
		}
	}
	below, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err == nil {
		for _, m := range below {
			if m.Mountpoint != dir {
				names = append(names, "the mount on "+m.Mountpoint)
			}
		}
	}
	if len(names) == 0 {
		return []string{"something that cannot be told (a loop device, swap, a namespace)"}
	}
	return names
}

// processes returns the directories of all processes in procfs.
func (g *Guest) processes() []string {
	procs, err := filepath.Glob(filepath.Join(g.cfg.Proc, "[0-9]*"))
	if err != nil {
		return nil
	}
	slices.Sort(procs)
	return procs
}

// processName returns "sleep (PID 7)".
func processName(proc string) string {
	comm, err := os.ReadFile(filepath.Join(proc, "comm"))
	if err != nil {
		comm = []byte("a process")
	}
	return fmt.Sprintf("%s (PID %s)", strings.TrimSpace(string(comm)), filepath.Base(proc))
}

// opensBelow reports whether the process has a file, its directory, its root, its program or a mapping below dir.
func opensBelow(proc, dir string) bool {
	below := func(path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
	for _, name := range append(descriptors(proc), "cwd", "root", "exe") {
		if path, err := os.Readlink(filepath.Join(proc, name)); err == nil && below(path) {
			return true
		}
	}
	maps, err := os.ReadFile(filepath.Join(proc, "maps"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(maps)) {
		if at := strings.Index(line, "/"); at >= 0 && below(strings.TrimSuffix(line[at:], "\n")) {
			return true
		}
	}
	return false
}

// descriptors returns the names of a process's open files, as "fd/3".
func descriptors(proc string) []string {
	entries, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, "fd/"+e.Name())
	}
	return names
}

// openers names the other processes that have the device itself open.
func (g *Guest) openers(n number) []string {
	var names []string
	self := strconv.Itoa(os.Getpid())
	for _, proc := range g.processes() {
		if filepath.Base(proc) != self && opensDevice(proc, n) {
			names = append(names, processName(proc))
		}
	}
	return names
}

func opensDevice(proc string, n number) bool {
	for _, fd := range descriptors(proc) {
		path := filepath.Join(proc, fd)
		// Only what is called like a device is looked at: stat of a file on a dead server does not return.
		if target, err := os.Readlink(path); err != nil || !strings.HasPrefix(target, "/dev/") {
			continue
		}
		if got, err := blockDevice(path); err == nil && got == n {
			return true
		}
	}
	return false
}

// mountedElsewhere names one process of each mount namespace that has the device mounted.
func (g *Guest) mountedElsewhere(n number) []string {
	var names []string
	seen := make(map[string]bool)
	for _, proc := range g.processes() {
		ns, err := os.Readlink(filepath.Join(proc, "ns/mnt"))
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		table, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
		if err == nil && strings.Contains(string(table), " "+n.String()+" ") {
			names = append(names, "the mount namespace of "+processName(proc))
		}
	}
	return names
}

// deviceUsers says who has the device, as " by ...", or nothing if that cannot be told.
func (g *Guest) deviceUsers(dev string) string {
	n, err := blockDevice(dev)
	if err != nil {
		return ""
	}
	if names := append(g.openers(n), g.mountedElsewhere(n)...); len(names) > 0 {
		return " by " + strings.Join(names, ", ")
	}
	return ""
}
