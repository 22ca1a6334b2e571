package supervisor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
)

// Journal is the durable record of a recovery, in a directory that one supervisor has at a time. Beside it lies the mark of a shutdown in order.
//
// A crash at any moment leaves what was last written, or what was written before. Damage by other means is noticed, and is [mooring.ErrCorrupt].
type Journal struct {
	dir  string
	lock *os.File
	last []byte // what was written last, as far as it matters
}

const (
	journalFile = "journal"
	markFile    = "shutdown" // holds the ID of the boot that was about to end in order
)

// OpenJournal takes the directory, and makes it if need be. One that another process has is [mooring.ErrInUse].
func OpenJournal(dir string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s: is another mooring-supervisor running? %w", dir, mooring.ErrInUse)
		}
		return nil, errors.Join(fmt.Errorf("open the journal: %w", err), lock.Close())
	}
	return &Journal{dir: dir, lock: lock}, nil
}

// Close lets the directory go.
func (j *Journal) Close() error { return j.lock.Close() }

// Read returns what was written last. Nothing yet is [mooring.ErrNotFound].
func (j *Journal) Read() (Recovery, error) {
	data, err := os.ReadFile(filepath.Join(j.dir, journalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Recovery{}, fmt.Errorf("read the journal: %w", mooring.ErrNotFound)
	}
	if err != nil {
		return Recovery{}, fmt.Errorf("read the journal: %w", err)
	}
	sum, body, _ := bytes.Cut(data, []byte("\n"))
	if string(sum) != checksum(body) {
		return Recovery{}, fmt.Errorf("read the journal: the checksum is wrong: %w", mooring.ErrCorrupt)
	}
	var r Recovery
	if err := json.Unmarshal(body, &r); err != nil {
		return Recovery{}, fmt.Errorf("read the journal: %w: %w", err, mooring.ErrCorrupt)
	}
	return r, nil
}

// Write replaces what was written last, durably, unless nothing has changed. When a right answer was given is no change.
func (j *Journal) Write(r Recovery) error {
	rough := r
	if r.Doors.Answer.Right {
		rough.Doors.Answer.At = time.Time{}
	}
	matters, err := json.Marshal(rough)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if bytes.Equal(matters, j.last) {
		return nil
	}
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(j.dir, journalFile), append([]byte(checksum(body)+"\n"), body...), 0o600); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	j.last = matters
	return nil
}

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Seen returns when the journal was last touched: by a write, or by [Journal.Touch]. Zero: never.
func (j *Journal) Seen() time.Time {
	info, err := os.Stat(filepath.Join(j.dir, journalFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Touch leaves a sign that the machine runs at that time. It is not durable at once: it is off by some seconds after a crash, and costs nothing.
func (j *Journal) Touch(now time.Time) error {
	return os.Chtimes(filepath.Join(j.dir, journalFile), now, now)
}

// Mark records, durably, that this boot is about to end in order.
func (j *Journal) Mark(boot mooring.BootID) error {
	return durable.WriteFile(filepath.Join(j.dir, markFile), []byte(boot+"\n"), 0o600)
}

// Marked returns the boot that was marked; empty if there is no mark that can be read.
func (j *Journal) Marked() mooring.BootID {
	data, err := os.ReadFile(filepath.Join(j.dir, markFile))
	if err != nil {
		return ""
	}
	return mooring.BootID(strings.TrimSpace(string(data)))
}

// Unmark removes the mark. It comes after the first write of a new boot, so that a supervisor that is killed between them is told the same again.
func (j *Journal) Unmark() error {
	if err := os.Remove(filepath.Join(j.dir, markFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return durable.SyncDirectory(j.dir)
}

// EndedInOrder says whether the boot that the recovery was written in ended in order, by the boot that was marked.
func EndedInOrder(last Recovery, marked mooring.BootID) mooring.Fact {
	if last.Boot == "" {
		return mooring.Unknown
	}
	return mooring.FactOf(last.Boot == marked)
}
