package ledger

import (
	"runtime"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
)

// OpenHooked is Open with a hook in each commit's file replacement.
func OpenHooked(dir string, hook durable.Hook) (*Ledger, error) { return open(dir, hook) }

// RebuildHooked is Rebuild with a hook in its file replacement.
func RebuildHooked(dir string, records []Record, hook durable.Hook) error {
	return rebuild(dir, records, hook)
}

// File returns the path of one of the two files.
func File(dir string, i int) string { return file(dir, i) }

// FormatVersion is the version that this package writes.
const FormatVersion = formatVersion

// Decode returns what a file holds: its generation and its records.
func Decode(data []byte) (number uint64, records map[mooring.Name]Record, err error) {
	g, err := decode(data)
	if err != nil {
		return 0, nil, err
	}
	records = make(map[mooring.Name]Record)
	for name, e := range g.records {
		records[name] = e.record
	}
	return g.number, records, nil
}

// Encode returns the file of a generation.
func Encode(number uint64, vm Identity, behind bool, records map[mooring.Name]Record) ([]byte, error) {
	entries := make(map[mooring.Name]entry)
	for name, r := range records {
		e, err := newEntry(r)
		if err != nil {
			return nil, err
		}
		entries[name] = e
	}
	return encode(number, meta{VM: vm, Behind: behind}, entries)
}

// Sum returns the checksum of a first line and a body, to forge whole files.
func Sum(head string, body []byte) []byte { return sum(head, body) }

// AwaitQueue returns when n changes wait for a commit.
func AwaitQueue(l *Ledger, n int) {
	for {
		l.mu.RLock()
		waiting := len(l.queue)
		l.mu.RUnlock()
		if waiting >= n {
			return
		}
		runtime.Gosched()
	}
}
