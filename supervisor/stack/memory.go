package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/durable"
	"github.com/mooring-sh/mooring/supervisor"
)

// memory keeps, durably, by whom each container that is down was ended, for as long as it is down: when the machine has died since, nobody
// can find that out again. It holds a few lines, and is written only when one of them changes.
type memory struct {
	file string // empty: nothing is kept

	mu   sync.Mutex
	kept map[supervisor.ServiceName]memo
}

// memo is what is known of a service that is down.
type memo struct {
	Container string       `json:"container,omitempty"` // empty: it was removed
	Finished  time.Time    `json:"finished,omitzero"`
	Person    mooring.Fact `json:"person"`
}

// load reads the file. One that is damaged is an error, and the memory is empty then.
func (m *memory) load() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = make(map[supervisor.ServiceName]memo)
	if m.file == "" {
		return nil
	}
	text, err := os.ReadFile(m.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var kept map[supervisor.ServiceName]memo
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		return fmt.Errorf("read who stopped which service: %w", err)
	}
	maps.Copy(m.kept, kept)
	return nil
}

// recall returns what is kept of the service.
func (m *memory) recall(name supervisor.ServiceName) (memo, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept, ok := m.kept[name]
	return kept, ok
}

// update keeps and forgets, and writes the file if that changes it.
func (m *memory) update(keep map[supervisor.ServiceName]memo, forget []supervisor.ServiceName) error {
	m.mu.Lock()
	next := maps.Clone(m.kept)
	maps.Copy(next, keep)
	for _, name := range forget {
		delete(next, name)
	}
	same := maps.EqualFunc(m.kept, next, func(a, b memo) bool {
		return a.Container == b.Container && a.Finished.Equal(b.Finished) && a.Person == b.Person
	})
	m.kept = next
	m.mu.Unlock()
	if same || m.file == "" {
		return nil
	}
	text, err := json.MarshalIndent(next, "", "  ")
	if err == nil {
		err = durable.WriteFile(m.file, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep who stopped which service: %w", err)
	}
	return nil
}
