package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/regclient/regclient/scheme/reg"
	"github.com/regclient/regclient/types/descriptor"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// content is a blob, in whatever repositories.
type content struct {
	digest  registry.Digest
	claims  []claim  // of all manifests that name it
	places  []*place // the repositories that need it
	size    int64    // the largest that is claimed, then the one it has
	right   bool     // it was hashed, or need not be
	assumed bool     // it was not: the size is what is claimed, and no claim was checked yet
	busy    bool     // it waits to be read, or is
	corrupt []error  // what was wrong with it where it was read
}

// place is a repository that needs a blob.
type place struct {
	repository *repository
	tried      bool
	err        error    // why it is not right here
	told       []string // the tags for which that was told
}

// need notes that a manifest names a blob, and has it read, or its repository asked, as is still needed.
func (w *walk) need(n *node, d registry.Descriptor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, known := w.contents[d.Digest]
	if !known {
		c = &content{digest: d.Digest, size: d.Size}
		w.contents[d.Digest] = c
		w.progress.AllBlobs++
	}
	c.claims = append(c.claims, claim{by: n, size: d.Size})
	switch {
	case c.right && !c.assumed:
		w.checkClaim(SawBlob, c.digest, c.size, c.claims[len(c.claims)-1])
	case !c.right:
		c.size = max(c.size, d.Size)
	}
	for _, p := range c.places {
		if p.repository == n.repository {
			w.tellLate(c, p, n)
			return
		}
	}
	c.places = append(c.places, &place{repository: n.repository})
	w.proceed(c)
}

// tellLate tells of a blob that was missed before an image manifest that names it was known: its tag moved while the walk went on. The lock is held.
func (w *walk) tellLate(c *content, p *place, n *node) {
	if p.err == nil || w.look != last {
		return
	}
	f := c.fact(p)
	f.Err = p.err
	for tag := range tagsOf([]*node{n}) {
		if !slices.Contains(p.told, tag) {
			f.Needed = append(f.Needed, tag)
		}
	}
	if len(f.Needed) > 0 {
		slices.Sort(f.Needed)
		w.report(doubt{fact: f, place: p})
	}
}

// proceed has the next step of a blob done, if there is one and none is under way: it is read out of one repository after the other until it is
// right in one, and the others are asked. The lock is held.
func (w *walk) proceed(c *content) {
	if c.busy {
		return
	}
	for _, p := range c.places {
		if p.tried {
			continue
		}
		p.tried = true
		if len(c.corrupt) == corruptEnough {
			w.condemn(c, p)
			continue
		}
		if c.right {
			w.pool.add(func(ctx context.Context) { w.question(ctx, c, p) })
			continue
		}
		c.busy = true
		size := max(0, c.size)
		w.progress.Total += size
		w.pool.addLarge(size, func(ctx context.Context) { w.hash(ctx, c, p, size) })
		return
	}
}

// corruptEnough is out of how many repositories a blob is read that is right in none. A registry of distribution's keeps a blob once, and one that is gigabytes and
// damaged would be read for each of hundreds.
const corruptEnough = 2

// condemn tells of a blob that is not read out of a repository, because it was wrong wherever it was. The lock is held.
func (w *walk) condemn(c *content, p *place) {
	f := c.fact(p)
	f.Asked = true
	f.Err = fmt.Errorf("not read out of %s any more: %w", p.repository.name, c.corrupt[0])
	p.err = f.Err
	w.report(doubt{fact: f, repository: p.repository, content: c, place: p})
}

// hash reads a blob out of a repository. So many bytes are expected.
func (w *walk) hash(ctx context.Context, c *content, p *place, expected int64) {
	if w.spare(c, p, expected) {
		return
	}
	size, err := w.count(ctx, c, p, expected)
	w.mu.Lock()
	defer w.mu.Unlock()
	c.busy = false
	if errors.Is(err, mooring.ErrCorrupt) {
		c.corrupt = append(c.corrupt, err)
	}
	if err != nil {
		w.missBlob(ctx, c, p, err)
	} else {
		p.err = nil
		w.progress.Blobs++
		w.settle(c, size)
		w.tell(c.fact(p))
	}
	w.proceed(c)
}

// settle notes that a blob was hashed, and is right. The lock is held.
func (w *walk) settle(c *content, size int64) {
	w.lost = 0
	c.right, c.assumed, c.size = true, false, size
	for _, claim := range c.claims {
		w.checkClaim(SawBlob, c.digest, size, claim)
	}
}

func (c *content) fact(p *place) Fact {
	return Fact{Kind: SawBlob, Repository: p.repository.name, Content: registry.Descriptor{Digest: c.digest, Size: c.size}}
}

// spare has a blob asked for only, if it need not be read.
func (w *walk) spare(c *content, p *place, expected int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.order.Skip == nil || !w.order.Skip(c.fact(p).Content) {
		return false
	}
	c.busy, p.tried = false, false
	c.right, c.assumed = true, true
	w.progress.Total -= expected
	w.progress.Blobs++
	w.proceed(c)
	return true
}

// count hashes, and tells each step; what was to be hashed for it then is what was. The size is not compared: what the manifests say about it is checked one by one.
func (w *walk) count(ctx context.Context, c *content, p *place, expected int64) (int64, error) {
	d := registry.Descriptor{Digest: c.digest, Size: registry.UnknownSize}
	size, err := w.registry.Hash(ctx, p.repository.name, d, func(n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.progress.Bytes += int64(n)
		if w.order.Progress != nil {
			w.order.Progress(w.progress)
		}
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress.Total += size - expected
	return size, err
}

// question asks a repository whether it has a blob that was hashed out of another one. If it says no, or gives another size, the blob is read there, too: a HEAD
// proves neither that something is there nor that it is not.
func (w *walk) question(ctx context.Context, c *content, p *place) {
	size, err := w.registry.head(ctx, p.repository.name, c.digest)
	w.mu.Lock()
	known := c.size
	if err == nil && (size == known || size < 0) {
		defer w.mu.Unlock()
		if c.assumed {
			w.settle(c, known)
		}
		f := c.fact(p)
		f.Asked = true
		p.err, w.lost = nil, 0
		w.tell(f)
		return
	}
	w.progress.Total += max(0, known)
	w.mu.Unlock()
	size, err = w.count(ctx, c, p, max(0, known))
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.missBlob(ctx, c, p, err)
		return
	}
	p.err = nil
	if c.assumed {
		w.settle(c, size)
	}
	w.tell(c.fact(p))
}

// missBlob tells of a blob that is not right in a repository. The lock is held.
func (w *walk) missBlob(ctx context.Context, c *content, p *place, err error) {
	p.err = err
	f := c.fact(p)
	f.Err = err
	w.doubt(ctx, doubt{
		fact: f, repository: p.repository, content: c, place: p,
		again: func(context.Context) {
			w.mu.Lock()
			defer w.mu.Unlock()
			p.tried = false
			w.proceed(c)
		},
	})
}

// head asks whether a repository has a blob, and returns its size as the registry says, or a negative number.
func (r *Registry) head(ctx context.Context, repository string, d registry.Digest) (int64, error) {
	x := &exchange{limit: maxAnswer}
	err := r.ask(ctx, x, func(ctx context.Context, c *reg.Reg) error {
		res, err := c.BlobHead(ctx, r.at(repository), descriptor.Descriptor{Digest: digest.Digest(d)})
		if err == nil {
			closeBody(res)
		}
		return err
	})
	if err != nil || x.status != http.StatusOK {
		return 0, r.failed(ctx, fmt.Sprintf("ask for blob %s@%s", repository, d), x, r.rightToPull(repository), err)
	}
	return lengthOf(x.header), nil
}
