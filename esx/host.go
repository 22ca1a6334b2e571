package esx

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
)

// defaultLinger is three times as long as a plugin keeps a disk attached that nobody holds.
const defaultLinger = 30 * time.Second

// Host is the virtual machine that we run in, with the disks of its group of volumes: it makes and removes them, attaches and detaches
// them. Its methods may be called concurrently; for one volume name, create, delete and the writing of its sidecar are the caller's to order.
type Host struct {
	session *Session
	where   Where
	log     *slog.Logger

	collect     time.Duration // how long a batch waits for company
	lingerLimit time.Duration // how long a disk on another running machine is waited for
	lingerPoll  time.Duration
	intentLimit time.Duration // how long another host's unfinished create is waited for
	intentPoll  time.Duration

	work sync.WaitGroup // the batches

	mu         sync.Mutex
	queue      []*change
	leading    bool // a goroutine works through the queue
	closed     bool
	conditions map[mooring.Name]Condition
}

// Condition is one thing about a volume that works, yet is wrong, with its cure.
type Condition struct {
	Volume mooring.Name `json:"volume"`
	What   string       `json:"what"`
	Cure   string       `json:"cure"`
}

// NewHost returns the host that where describes. It asks nothing of vCenter.
func NewHost(s *Session, where Where, log *slog.Logger) *Host {
	if where.Group == "" {
		where.Group = DefaultGroup
	}
	if where.Linger == 0 {
		where.Linger = defaultLinger
	}
	return &Host{
		session: s, where: where, log: log,
		collect:     30 * time.Millisecond,
		lingerLimit: where.Linger,
		lingerPoll:  min(time.Second, where.Linger/10),
		intentLimit: 5 * time.Second,
		intentPoll:  250 * time.Millisecond,
		conditions:  map[mooring.Name]Condition{},
	}
}

// Close refuses further attachments and waits for the batch that runs. The session stays open: it is its maker's.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	idle := make(chan struct{})
	go func() { h.work.Wait(); close(idle) }()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Conditions lists what is wrong with volumes that are attached all the same, by name.
func (h *Host) Conditions() []Condition {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]Condition, 0, len(h.conditions))
	for _, c := range h.conditions {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Condition) int { return strings.Compare(string(a.Volume), string(b.Volume)) })
	return list
}

// setCondition records the condition, or, without a text, that there is none any more.
func (h *Host) setCondition(name mooring.Name, what, cure string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if what == "" {
		delete(h.conditions, name)
		return
	}
	h.conditions[name] = Condition{Volume: name, What: what, Cure: cure}
}
