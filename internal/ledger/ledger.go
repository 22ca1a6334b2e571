// Package ledger is the plugin's durable record of volumes and of who holds them. It answers for vCenter when vCenter cannot be
// reached, so that dockerd never hears an error where it asked for a volume that exists.
//
// It promises: what [Ledger.Put], [Ledger.Update], [Ledger.Drop] and [Ledger.SetVM] have acknowledged is on stable storage;
// a reader never waits for a disk; a commit that fails changes nothing; and with one of its two files lost or damaged
// it still opens, saying so ([Ledger.Behind]). It is intent only: whether a disk is attached is the VM's hardware list's
// to say, whether a filesystem is mounted the kernel's.
//
// It never repairs, overwrites or guesses where both files are damaged: that is [Rebuild]'s, which a person asks for. It never
// reads what it wrote while it is open, and never shares its directory with a second process.
package ledger

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
)

// Instance is one run of a dockerd: the process ID of the socket's peer and its start time, in clock ticks since the boot
// (field 22 of /proc/PID/stat). The zero value is an instance that nobody knows.
type Instance struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Holder is one mount ID that Docker has not let go. It means something only in its own boot.
type Holder struct {
	ID      mooring.MountID `json:"id"`
	Count   int             `json:"count"` // docker cp mounts again with the ID of the running container
	Boot    mooring.BootID  `json:"boot"`
	Dockerd Instance        `json:"dockerd,omitzero"`
}

// Record is what the ledger knows about one volume.
type Record struct {
	Volume mooring.Volume `json:"volume"`
	// Own says that this host made, mounted or was asked for the volume: a listing never drops it.
	Own bool `json:"own,omitempty"`
	// Root says that the root of the filesystem was handed out, not the directory data in it: an adopted volume.
	Root    bool     `json:"root,omitempty"`
	Holders []Holder `json:"holders,omitempty"`
}

// clone returns a record that shares nothing with r.
func (r Record) clone() Record {
	r.Volume.Labels = maps.Clone(r.Volume.Labels)
	r.Holders = slices.Clone(r.Holders)
	return r
}

// Identity is that of the virtual machine whose ledger this is, and of its last settled boot. On a clone, or on a restored machine, Instance differs from vCenter's:
// the holders are void then, and nothing is attached ahead.
type Identity struct {
	BIOS     string `json:"bios"`     // config.uuid, lower case
	Instance string `json:"instance"` // config.instanceUuid, lower case
	// Boot is the last one in which Docker's API had answered for long enough: what is idle in a later one may still be wanted.
	Boot mooring.BootID `json:"boot,omitempty"`
}

// Ledger is the open record. All methods may be called concurrently. What they return is the caller's: it shares nothing
// with the ledger.
type Ledger struct {
	lock *os.File // holds the flock; closed last

	// turn is held by the one goroutine that writes. All that waited for it meanwhile is written in one commit.
	turn    chan struct{}
	dir     string
	hook    durable.Hook
	current int    // the file, 0 or 1, that the memory below was committed to; the other is written next
	counter uint64 // the highest generation that was tried
	retry   bool   // the last commit failed: what the files hold is not surely what the memory holds
	closed  bool

	mu      sync.RWMutex // never held during I/O
	records map[mooring.Name]entry
	meta    meta
	queue   []*change
}

// entry is a record with its bytes in the file, so that a commit encodes only what has changed.
type entry struct {
	record Record
	bytes  []byte
}

// meta is what the ledger records beside volumes.
type meta struct {
	VM     Identity `json:"vm,omitzero"`
	Behind bool     `json:"behind,omitempty"`
}

// Find returns the record of the volume of that name. The error wraps [mooring.ErrNotFound] if there is none.
func (l *Ledger) Find(name mooring.Name) (Record, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e, ok := l.records[name]
	if !ok {
		return Record{}, notFound(name)
	}
	return e.record.clone(), nil
}

// All returns every record, sorted by the volumes' names.
func (l *Ledger) All() []Record {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := make([]Record, 0, len(l.records))
	for _, e := range l.records {
		all = append(all, e.record.clone())
	}
	slices.SortFunc(all, func(a, b Record) int { return cmp.Compare(a.Volume.Name, b.Volume.Name) })
	return all
}

// VM returns the identity of the virtual machine as [Ledger.SetVM] recorded it; zero if it never was.
func (l *Ledger) VM() Identity {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.meta.VM
}

// Behind reports whether the ledger may lack what was recorded last: it was opened with one of its two files lost or damaged, or
// was rebuilt. It stays so, over restarts, until [Ledger.CaughtUp].
func (l *Ledger) Behind() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.meta.Behind
}

func notFound(name mooring.Name) error {
	return fmt.Errorf("volume %q in the ledger: %w", name, mooring.ErrNotFound)
}
