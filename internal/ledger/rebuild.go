package ledger

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
)

// Rebuild makes a new ledger of records in a directory where no file is whole. The damaged files are kept beside it, under names that end in
// .bad-N. The new ledger is [Ledger.Behind]: what it was made of may lack holders. It may be stopped at any moment and
// called again. The errors wrap [mooring.ErrExists] where a file is whole (there is nothing to rebuild), [mooring.ErrInUse] where
// a process has the ledger open, and [mooring.ErrInvalid] where a newer Mooring wrote it; nothing is changed then.
func Rebuild(dir string, records []Record) error {
	if err := rebuild(dir, records, nil); err != nil {
		return fmt.Errorf("rebuild the ledger: %w", err)
	}
	return nil
}

func rebuild(dir string, records []Record, hook durable.Hook) (err error) {
	lock, err := acquire(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()

	slots := [2]slot{readSlot(dir, 0), readSlot(dir, 1)}
	if _, err := choose(slots); err == nil {
		return fmt.Errorf("%s can be read: %w", dir, mooring.ErrExists)
	} else if !errors.Is(err, mooring.ErrCorrupt) {
		return err
	}
	l := Ledger{dir: dir, hook: hook, current: 1, records: make(map[mooring.Name]entry)}
	for _, r := range records {
		e, err := newEntry(r)
		if err != nil {
			return err
		}
		l.records[r.Volume.Name] = e
	}
	// A second name first, the new file in its place after: a directory with neither would be opened as a ledger that knows nothing.
	for _, s := range slots {
		if err := keepAside(s); err != nil {
			return err
		}
	}
	if err := durable.SyncDirectory(dir); err != nil {
		return err
	}
	if err := l.write(l.records, meta{Behind: true}); err != nil {
		return err
	}
	if slots[1].absent {
		return nil
	}
	// Its content has the other name. It goes last: until then the new file is read with this one passed over as damaged.
	return errors.Join(os.Remove(slots[1].path), durable.SyncDirectory(dir))
}

// keepAside gives a damaged file a second name that no file has.
func keepAside(s slot) error {
	for n := 1; !s.absent; n++ {
		err := os.Link(s.path, s.path+".bad-"+strconv.Itoa(n))
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
