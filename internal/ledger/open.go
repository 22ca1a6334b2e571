package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
)

// Open opens the ledger in the directory, and makes both when they are absent. The errors wrap [mooring.ErrInUse], naming the process
// that has it open; [mooring.ErrCorrupt] when neither file is whole, naming both and the cure; and [mooring.ErrInvalid] when a newer
// Mooring wrote it. None of them changes anything.
func Open(dir string) (*Ledger, error) { return open(dir, nil) }

// Exists reports whether a ledger was ever written in the directory, readable or not.
func Exists(dir string) bool {
	for i := range 2 {
		if _, err := os.Lstat(file(dir, i)); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

func open(dir string, hook durable.Hook) (*Ledger, error) {
	lock, err := acquire(dir)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	l := &Ledger{lock: lock, turn: make(chan struct{}, 1), dir: dir, hook: hook}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the ledger: %w", err), lock.Close())
	}
	return l, nil
}

// load fills the memory from the files, or makes the first generation where there are none.
func (l *Ledger) load() error {
	slots := [2]slot{readSlot(l.dir, 0), readSlot(l.dir, 1)}
	use, err := choose(slots)
	if err != nil {
		return err
	}
	if use.fresh {
		l.records = make(map[mooring.Name]entry)
		l.current = 1
		return l.write(l.records, l.meta)
	}
	g := slots[use.slot].generation
	l.records, l.meta = g.records, g.meta
	l.meta.Behind = l.meta.Behind || use.behind
	l.current, l.counter = use.slot, g.number
	return nil
}

// slot is one of the two files as it was found.
type slot struct {
	path       string
	absent     bool
	damage     error // not nil: the file cannot be used
	generation generation
}

func readSlot(dir string, i int) slot {
	s := slot{path: file(dir, i)}
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.absent = true
		s.damage = errors.New("is missing")
		return s
	}
	if err != nil {
		s.damage = err
		return s
	}
	s.generation, s.damage = decode(data)
	return s
}

// choice says what to open with.
type choice struct {
	fresh  bool // no ledger yet
	slot   int
	behind bool // the other file was lost or damaged, and may have been the newer
}

// choose decides which file is the ledger. It is pure.
func choose(slots [2]slot) (choice, error) {
	for _, s := range slots {
		if newer := (newerError{}); errors.As(s.damage, &newer) {
			return choice{}, fmt.Errorf("%s %w: %w", s.path, s.damage, mooring.ErrInvalid)
		}
	}
	a, b := slots[0], slots[1]
	switch {
	case a.absent && b.absent:
		return choice{fresh: true}, nil
	case a.damage != nil && b.damage != nil:
		return choice{}, fmt.Errorf("%s %w; %s %w: %w: nothing was changed; run: mooring ledger rebuild",
			a.path, a.damage, b.path, b.damage, mooring.ErrCorrupt)
	case a.damage == nil && b.damage == nil:
		if b.generation.number > a.generation.number {
			return choice{slot: 1}, nil
		}
		return choice{slot: 0}, nil
	default:
		good := 0
		if a.damage != nil {
			good = 1
		}
		// The first generation of all has no other beside it; every later one has.
		first := slots[1-good].absent && slots[good].generation.number == 1
		return choice{slot: good, behind: !first}, nil
	}
}

// acquire makes the directory if need be and takes it for this process, until the file is closed or the process ends.
func acquire(dir string) (*os.File, error) {
	if err := makeDirectory(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s is owned by %s: %w", dir, owner(path), mooring.ErrInUse)
		}
		return nil, errors.Join(err, f.Close())
	}
	// The process ID is for the message above only; the lock is the kernel's.
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	_, err = f.WriteAt(pid, 0)
	if err := errors.Join(err, f.Truncate(int64(len(pid)))); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	return f, nil
}

func makeDirectory(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.SyncDirectory(filepath.Dir(dir))
}

// owner names the process that wrote its ID into the lock file.
func owner(path string) string {
	b, err := os.ReadFile(path)
	pid := strings.TrimSpace(string(b))
	if err != nil || pid == "" {
		return "another process"
	}
	return "process " + pid
}
