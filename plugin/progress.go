package plugin

import (
	"fmt"
	"sync"

	"github.com/mooring-sh/mooring"
)

// progress remembers what is being done to each volume, for the requests that cannot wait longer. The zero value is ready.
type progress struct {
	mu  sync.Mutex
	now map[mooring.Name]string
}

// set records what is being done; percent is 0 to 100, or negative when nobody can tell.
func (p *progress) set(name mooring.Name, what string, percent int) {
	if percent >= 0 {
		what = fmt.Sprintf("%s, %d %%", what, percent)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now = make(map[mooring.Name]string)
	}
	p.now[name] = what
}

func (p *progress) clear(name mooring.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.now, name)
}

func (p *progress) text(name mooring.Name) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if what, ok := p.now[name]; ok {
		return "still " + what
	}
	return "still busy with an earlier request"
}
