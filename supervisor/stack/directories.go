package stack

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/docker"
	"github.com/mooring-sh/mooring/supervisor"
)

const (
	// probing is the time between two tries to write where the last failed or the service is down, probed once everything is well.
	probing   = 5 * time.Second
	probeRest = time.Minute
	// forgotten is how long a directory is tried that nobody asks for: it may have been unmounted.
	forgotten = 5 * time.Second
)

// dirKey is a directory, who writes there, and the mount point that it is to lie on; empty: it may lie anywhere.
type dirKey struct {
	path string
	uid  int
	on   string
}

// probed is the last try to write.
type probed struct {
	probe

	at     time.Time
	busy   bool
	wanted time.Time // when somebody asked for it last: what nobody asks for is not tried, and its answer is forgotten
}

// volume is what Docker tells of a volume.
type volume struct {
	driver, mountpoint string
	at                 time.Time
}

// lookUpVolumes asks Docker for the volumes whose driver nothing else tells, and for where those are mounted of services without a container. It remembers what it has
// found, and asks again for what was not mounted.
func (s *Stack) lookUpVolumes(ctx context.Context, v view) map[string]volume {
	s.mu.Lock()
	known := maps.Clone(s.volumes)
	down := s.seen.err != nil
	s.mu.Unlock()
	if down {
		return known
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit) // the driver is asked, too, and may take its time
	defer cancel()
	for _, name := range v.names() {
		if len(v.containers[name]) > 0 {
			continue
		}
		for _, m := range v.mounts(name) {
			if old := known[m.Volume]; m.Volume == "" || old.mountpoint != "" || time.Since(old.at) < probing {
				continue
			}
			driver, mountpoint, err := s.engine.Volume(ctx, m.Volume)
			known[m.Volume] = volume{driver: cmp.Or(driver, known[m.Volume].driver), mountpoint: mountpoint, at: time.Now()}
			if err != nil && !errors.Is(err, mooring.ErrNotFound) {
				break
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.volumes, known)
	return known
}

// dirs returns the directories for data that the service mounts. One of a volume of Mooring's that is not mounted is left out: the volume's state says so.
func (s *Stack) dirs(v view, name supervisor.ServiceName, mounted map[string]bool) []supervisor.Dir {
	var dirs []supervisor.Dir
	for _, m := range v.mounts(name) {
		m.Source = cmp.Or(m.Source, v.volumes[m.Volume].mountpoint)
		ours := m.Volume != "" && cmp.Or(m.Driver, v.volumes[m.Volume].driver) == mooring.DriverName
		on := s.mustBeMounted(m.Source)
		if ours {
			if on = m.Source; !mounted[on] {
				on = filepath.Dir(on)
			}
		}
		if m.ReadOnly || m.Source == "" || ours && !mounted[on] {
			continue
		}
		for _, w := range writers(m, v.profile.Services[name].Writes, v.user(name), on != "" && !ours) {
			d := s.dir(w, on, mounted)
			if !slices.ContainsFunc(dirs, func(o supervisor.Dir) bool { return o.Path == d.Path && o.UID == d.UID }) {
				dirs = append(dirs, d)
			}
		}
	}
	return dirs
}

// dir returns the state of one directory, which has to lie on that mount point if it is not empty.
func (s *Stack) dir(w writer, on string, mounted map[string]bool) supervisor.Dir {
	d := supervisor.Dir{Path: w.path, UID: w.uid}
	if on != "" && !mounted[on] {
		d.Mounted, d.Why = mooring.No, "nothing is mounted on "+on
		d.Cure = "mount what belongs there (findmnt " + on + "; mount " + on + ")"
		return d
	}
	if on != "" {
		d.Mounted = mooring.Yes
	}
	if w.known {
		p := s.lastTry(dirKey{w.path, w.uid, on})
		d.Writable, d.Why, d.Cure = p.Writable, p.Why, p.Cure
	}
	return d
}

// lastTry returns what the last try to write there came to, and has it tried again and again.
func (s *Stack) lastTry(key dirKey) probe {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.probes[key]
	p.wanted = time.Now()
	s.probes[key] = p
	return p.probe
}

// mustBeMounted returns the directory that has to be a mount point for path to be what it should be, or nothing.
func (s *Stack) mustBeMounted(path string) string {
	for _, dir := range s.cfg.MustBeMounted {
		if within(path, dir) {
			return filepath.Clean(dir)
		}
	}
	return ""
}

// user returns the service's user as the container or the project has it.
func (v view) user(name supervisor.ServiceName) string {
	for _, c := range v.containers[name] {
		return c.User
	}
	return v.project.Services[name].User
}

// writer is a directory of the host, and who writes there, if that is known.
type writer struct {
	path  string
	uid   int
	known bool
}

// writers returns who writes into the mount. The profile knows; where it says nothing of the service, a volume, and a directory that must be mounted, is written by
// the user that the container is given by number, or else by the directory's owner. What else is bound may be anything, and is not tried.
func writers(m docker.Mount, writes map[string]int, user string, guarded bool) []writer {
	var all []writer
	for _, dir := range slices.Sorted(maps.Keys(writes)) {
		if rel, err := filepath.Rel(m.Target, dir); err == nil && within(dir, m.Target) {
			all = append(all, writer{path: filepath.Join(m.Source, rel), uid: writes[dir], known: true})
		}
	}
	switch {
	case len(all) > 0:
		return all
	case guarded || m.Volume != "" && len(writes) == 0:
		uid, known := owner(m.Source, user)
		return []writer{{path: m.Source, uid: uid, known: known && len(writes) == 0}}
	default:
		return nil
	}
}

// owner returns the user who writes into the directory, by the container's user if that is a number. Nobody writes into what is no directory.
func owner(dir, user string) (uid int, known bool) {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return 0, false
	}
	number, _, _ := strings.Cut(user, ":")
	if uid, err = strconv.Atoi(number); err == nil {
		return uid, true
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(sys.Uid), true
}

// probeAll begins to try those directories that are due.
func (s *Stack) probeAll(ctx context.Context, all *sync.WaitGroup) {
	if len(s.cfg.Probe) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for key, p := range s.probes {
		pause := probeRest
		if p.Writable != mooring.Yes || s.restless() {
			pause = probing
		}
		if !p.busy && now.Sub(p.wanted) > forgotten {
			delete(s.probes, key)
			continue
		}
		if p.busy || now.Sub(p.at) < pause {
			continue
		}
		p.busy = true
		s.probes[key] = p
		all.Go(func() {
			result := s.tryOn(ctx, key)
			s.mu.Lock()
			changed := s.probes[key].Writable != result.Writable
			s.probes[key] = probed{probe: result, at: time.Now(), wanted: s.probes[key].wanted}
			s.mu.Unlock()
			if changed {
				s.change()
			}
		})
	}
}

// tryOn tries to write. What a try came to during which the volume was unmounted, as it is when its last container ends, says nothing.
func (s *Stack) tryOn(ctx context.Context, key dirKey) probe {
	if key.on == "" {
		return s.prober.try(ctx, key.path, key.uid, key.uid)
	}
	before := mountOn(key.on)
	result := s.prober.try(ctx, key.path, key.uid, key.uid)
	if result.Writable == mooring.No && (before == 0 || mountOn(key.on) != before) {
		return probe{}
	}
	return result
}

// restless reports whether a container is down; the caller holds the mutex.
func (s *Stack) restless() bool {
	for _, c := range s.seen.containers {
		if c.State != "running" {
			return true
		}
	}
	return len(s.seen.containers) == 0
}

// guardAll makes the directories immutable on which nothing is mounted, and should be. What is wrong is told once.
func (s *Stack) guardAll() {
	if len(s.cfg.MustBeMounted) == 0 {
		return
	}
	mounted, err := mountpoints()
	if err != nil {
		return // Observe tells
	}
	var marks []string
	for _, dir := range s.cfg.MustBeMounted {
		if err := guard(dir, mounted); err != nil {
			marks = append(marks, err.Error())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marks = marks
}
