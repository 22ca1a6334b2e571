package powercut

import (
	"fmt"
	"slices"
	"sync"

	"github.com/mooring-sh/mooring/internal/registry"
)

// Moment is a place in the order in which pushers saw what happened. The first is 1; zero means that it has not happened.
type Moment int

// Push is one manifest that was sent under one tag.
type Push struct {
	Repository string
	Tag        string
	Manifest   registry.Digest
	Blobs      []registry.Digest
	Kind       Kind
	Image      Image

	Sent         Moment // before the first byte of it went out
	Acknowledged Moment // after the registry had answered that it has it
}

// Upload is one blob that the registry took.
type Upload struct {
	Repository   string
	Blob         registry.Digest
	Acknowledged Moment
}

// Receipts are what pushers know of their pushes. They may be used by several goroutines.
type Receipts struct {
	mu      sync.Mutex
	now     Moment
	pushes  []Push
	uploads []Upload

	acknowledged int // pushes
	enough       int // of them
	reached      chan struct{}
}

// Reach returns a channel that is closed when as many pushes are acknowledged. It may be called once.
func (r *Receipts) Reach(pushes int) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enough, r.reached = pushes, make(chan struct{})
	if r.acknowledged >= r.enough {
		close(r.reached)
	}
	return r.reached
}

// Send notes that a manifest is about to be sent, and returns the push's number.
func (r *Receipts) Send(p Push) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now++
	p.Sent, p.Acknowledged = r.now, 0
	r.pushes = append(r.pushes, p)
	return len(r.pushes) - 1
}

// Acknowledge notes that the registry has answered the push.
func (r *Receipts) Acknowledge(push int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now++
	r.pushes[push].Acknowledged = r.now
	r.acknowledged++
	if r.reached != nil && r.acknowledged == r.enough {
		close(r.reached)
	}
}

// Uploaded notes that the registry has answered the upload of a blob.
func (r *Receipts) Uploaded(repository string, blob registry.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now++
	r.uploads = append(r.uploads, Upload{repository, blob, r.now})
}

// After returns the receipts of those who push on after that cut: what was acknowledged later is not, but may be on the disk.
func (r *Receipts) After(cut Moment) *Receipts {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := &Receipts{now: r.now, pushes: slices.Clone(r.pushes)}
	for n, p := range left.pushes {
		if !p.acknowledged(cut) {
			left.pushes[n].Acknowledged = 0
		}
	}
	for _, u := range r.uploads {
		if u.Acknowledged <= cut {
			left.uploads = append(left.uploads, u)
		}
	}
	return left
}

// Now returns the moment of what was noted last.
func (r *Receipts) Now() Moment {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// Expect returns what must be on a disk whose power was cut between that moment and this call.
func (r *Receipts) Expect(cut Moment) Expectation {
	r.mu.Lock()
	pushes, uploads := slices.Clone(r.pushes), slices.Clone(r.uploads)
	r.mu.Unlock()
	return expect(pushes, uploads, cut)
}

// Expectation is what must be on a disk.
type Expectation struct {
	Blobs  map[InRepository]bool                // with their links
	Images map[InRepository]bool                // manifests, with their links
	Tags   map[TagName]map[registry.Digest]bool // what each may be; a tag that need not be there is absent
	Pushes int                                  // that were acknowledged

	UnderWay []Push // sent and not acknowledged: what may have destroyed something else
}

// InRepository is a blob or a manifest in a repository.
type InRepository struct {
	Repository string
	Digest     registry.Digest
}

// TagName is a tag in a repository.
type TagName struct{ Repository, Tag string }

// expect returns what must be there when the power was cut after that moment. Pushes that were sent later may have been under way at the cut.
func expect(pushes []Push, uploads []Upload, cut Moment) Expectation {
	e := Expectation{Blobs: map[InRepository]bool{}, Images: map[InRepository]bool{}, Tags: map[TagName]map[registry.Digest]bool{}}
	for _, u := range uploads {
		if u.Acknowledged <= cut {
			e.Blobs[InRepository{u.Repository, u.Blob}] = true
		}
	}
	settled := map[TagName]Moment{} // when the latest of the acknowledged pushes was sent: what was acknowledged before it is past
	for _, p := range pushes {
		if !p.acknowledged(cut) {
			e.UnderWay = append(e.UnderWay, p)
			continue
		}
		e.Pushes++
		e.Images[InRepository{p.Repository, p.Manifest}] = true
		for _, b := range p.Blobs {
			e.Blobs[InRepository{p.Repository, b}] = true
		}
		settled[p.name()] = max(settled[p.name()], p.Sent)
	}
	for _, p := range pushes {
		sent, there := settled[p.name()]
		if !there || p.acknowledged(cut) && p.Acknowledged < sent {
			continue
		}
		if e.Tags[p.name()] == nil {
			e.Tags[p.name()] = map[registry.Digest]bool{}
		}
		e.Tags[p.name()][p.Manifest] = true
	}
	return e
}

// String returns the push as a word of a line.
func (p Push) String() string {
	return fmt.Sprintf("%s %s:%s %s", p.Kind, p.Repository, p.Tag, p.Manifest.Short())
}

func (p Push) name() TagName { return TagName{p.Repository, p.Tag} }

func (p Push) acknowledged(cut Moment) bool { return p.Acknowledged != 0 && p.Acknowledged <= cut }
