package images

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/layout"
)

// BesideData is where the manifest is kept beside the data, relative to the directory of a registry's storage. The registry does not look there.
const BesideData = "docker/registry/mooring-manifest"

// Setup says what a [Prover] is to prove.
type Setup struct {
	Storage string // the directory that contains docker/registry/v2. It may be absent, or another disk, at any time between two calls
	Records string // the prover's own directory, where it keeps the manifest; it keeps it beside the data, too. Empty: it keeps none
	// Known is the manifest to compare with if none is kept; nil: there is none, and the storage is judged by itself.
	Known *Manifest
	Tags  Tags // nil: the storage has the tags
	// Asked is for how long Refresh takes the database's last word while the storage, where every push begins, looks as it did: a command in its container costs more than a look at
	// thousands of images. A tag that only the database has is seen so much later. 0: it is asked each time.
	Asked time.Duration
	// LookOnly: nothing is written to the storage. No link is made anew, no blob is moved aside, and the manifest is not kept beside the data.
	LookOnly bool
	// Commit is how much of what was written before a crash the filesystem may have lost; 0: a minute, which is more than ext4 and xfs are set to by default.
	Commit time.Duration
	// Checkpoint is how often Rehash records how far it is; 0: every five seconds.
	Checkpoint time.Duration
}

const (
	defaultCommit     = time.Minute
	defaultCheckpoint = 5 * time.Second
	// Between two looks at the whole storage while all is well; what is deleted without a tag is noticed no sooner.
	wholeEvery = time.Hour
	// How old a record may become that nothing has changed.
	recordEvery = 5 * time.Minute
)

// Prover keeps the manifest of one registry's storage and proves the storage against it. Its methods may be called at the same time, and open the storage only while they run: each lets
// go of it within two seconds of its ctx's end.
type Prover struct {
	setup Setup
	see   func(layout.Hashed) // for tests: is told of each blob that tier 3 has hashed; may be nil

	turn     chan struct{} // whoever has it may use what follows
	records  *Records      // nil: nothing is kept
	manifest *Manifest
	changed  time.Time         // when the manifest was last recorded
	whole    time.Time         // when all of the storage was last looked at while all was well
	traces   map[string]uint64 // of the repositories, at the last refresh
	mark     string            // of the database, at the last refresh
	asked    time.Time         // when the database was asked for that
	stirred  time.Time         // when the storage was last seen to look otherwise than before, while there is a database
	damage   []string          // what was wrong with the records when they were read, until they are written anew

	mu   sync.Mutex
	last Last
}

// Last is what is known without looking.
type Last struct {
	Manifest Count     `json:"manifest"`          // what the manifest has
	Taken    time.Time `json:"taken,omitzero"`    // when it was last compared with the storage while all was well
	Round    time.Time `json:"round,omitzero"`    // when the last round of tier 3 began
	Proved   time.Time `json:"proved,omitzero"`   // when a round of tier 3 last ended
	Records  []string  `json:"records"`           // what is wrong with the records: damaged in one place, in all, behind; each a sentence
	Verified Verdict   `json:"verified,omitzero"` // of Verify, the last time; zero At: never in this process
	Rehashed Verdict   `json:"rehashed,omitzero"` // of Rehash, the last time
}

// NewProver returns the prover, with what is recorded: also beside the data, so the storage should be mounted by then. Records that are lost or damaged are no error: [Prover.Last] tells of them, and the storage is judged by itself. The error wraps
// [mooring.ErrInUse] if another process keeps the records, and [mooring.ErrInvalid] if a newer Mooring wrote them.
func NewProver(s Setup) (*Prover, error) {
	if s.Commit == 0 {
		s.Commit = defaultCommit
	}
	if s.Checkpoint == 0 {
		s.Checkpoint = defaultCheckpoint
	}
	p := &Prover{setup: s, turn: make(chan struct{}, 1), manifest: new(Manifest)}
	if s.Records == "" {
		if s.Known != nil {
			p.manifest = s.Known
		}
		p.remember()
		return p, nil
	}
	if err := p.open(); err != nil {
		return nil, err
	}
	p.remember()
	return p, nil
}

// open reads the records.
func (p *Prover) open() error {
	dirs := []string{p.setup.Records}
	if !p.setup.LookOnly {
		dirs = append(dirs, filepath.Join(p.setup.Storage, BesideData))
	}
	records, m, damage, err := OpenRecords(dirs...)
	if records == nil {
		return err
	}
	p.records, p.manifest = records, m
	for _, d := range damage {
		p.damage = append(p.damage, d.Error())
	}
	switch {
	case errors.Is(err, mooring.ErrCorrupt):
		p.damage = append(p.damage, "the manifest is lost in all places: what is there is judged by itself, and what is not there is not missed")
	case m.Behind():
		p.damage = append(p.damage, "the newest manifest is lost: an older one is used")
	}
	return nil
}

// Close lets the records go.
func (p *Prover) Close() error {
	if p.records == nil {
		return nil
	}
	return p.records.Close()
}

// Last returns the last results.
func (p *Prover) Last() Last {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// Entries returns the images of the manifest, as [Manifest.Entries] lists them. It waits for a method that is at work.
func (p *Prover) Entries() []Entry {
	p.turn <- struct{}{}
	defer p.give()
	return slices.AppendSeq([]Entry{}, p.manifest.Entries())
}

// take waits for the turn.
func (p *Prover) take(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *Prover) give() { <-p.turn }

// remember keeps what the manifest has for Last. Whoever calls it has the turn.
func (p *Prover) remember() {
	c := p.manifest.Count()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Records = p.damage
	p.last.Manifest, p.last.Taken, p.last.Round, p.last.Proved = c, p.manifest.taken, p.manifest.round, p.manifest.proved
}

// commit applies a change to the manifest, and records it. Whoever calls it has the turn. One that only says the time is not worth a write each time.
func (p *Prover) commit(c *change) error {
	if err := p.manifest.apply(c.body()); err != nil {
		return fmt.Errorf("change the manifest: %w", err)
	}
	p.manifest.compact()
	defer p.remember()
	now := time.Now()
	if p.records == nil || c.ops == 0 && now.Sub(p.changed) < recordEvery {
		return nil
	}
	err := p.records.save(p.manifest, c)
	p.changed = now
	if err != nil {
		p.damage = []string{err.Error()}
	}
	return err
}

// errNotAsked is about a storage whose tags are in a database, of which nobody has said where it is.
var errNotAsked = errors.New("it was not asked, for nobody has said in which container it runs")

// rows asks the database. That it does not answer is no error where it may be starting still.
func (p *Prover) rows(ctx context.Context) (rows *Rows, unknown bool, why error) {
	switch {
	case p.setup.Tags == nil && p.manifest.tagsElsewhere():
		return nil, true, errNotAsked
	case p.setup.Tags == nil:
		return nil, false, nil
	}
	rows, err := p.setup.Tags.Rows(ctx)
	if err != nil {
		return nil, true, err
	}
	return rows, false, nil
}

// Verify judges the storage: tier 1, and tier 2. It is for after a failure, before anybody may push. show is called by one goroutine at a time; it may be nil. What a
// power cut leaves is put right by itself, and noted: links that it has emptied are made anew, and what it has left of a blob that no image needs is moved aside. A database that does not answer is noted, too: its tags are then those of the manifest.
func (p *Prover) Verify(ctx context.Context, show func(Progress)) (Verdict, error) {
	if err := p.take(ctx); err != nil {
		return Verdict{}, err
	}
	defer p.give()
	show = quiet(show)
	storage, seen, err := p.look(ctx, show)
	if err != nil {
		return Verdict{}, err
	}
	h := newHashing(p.manifest, show)
	if err := h.run(ctx, storage, due(p.manifest, seen, p.setup.Commit), layout.Pace{Direct: true}); err != nil {
		return Verdict{}, err
	}
	v := Judge(p.manifest, seen, h.wrong)
	v.Hashed, v.HashedBytes = h.with(seen)
	if !p.setup.LookOnly {
		setStraysAside(storage, p.manifest, &v)
	}
	if !p.manifest.Empty() {
		now := time.Now()
		c := h.take(now)
		c.images(p.manifest, seen, now)
		_ = p.commit(c) // the verdict is worth as much without; Last tells of it
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last.Verified = v
	return v, nil
}

// look looks at all of the storage, and trusts nothing. Whoever calls it has the turn.
func (p *Prover) look(ctx context.Context, show func(Progress)) (*layout.Storage, *Seen, error) {
	storage, err := layout.Open(p.setup.Storage)
	if err != nil {
		return nil, nil, err
	}
	rows, unknown, why := p.rows(ctx)
	l := &looking{storage: storage, m: p.manifest, mend: !p.setup.LookOnly, show: show}
	seen, err := l.look(ctx, rows, unknown)
	if err != nil {
		return nil, nil, err
	}
	if err := l.ask(ctx, p.setup.Tags); err != nil {
		why = err
	}
	if why != nil {
		seen.Notes = append(seen.Notes, fmt.Sprintf("the database did not tell all; what it did not is as last seen: %v", why))
	}
	if !p.setup.LookOnly {
		seen.Notes = append(seen.Notes, mendTags(storage, seen)...)
	}
	return storage, seen, nil
}

func quiet(show func(Progress)) func(Progress) {
	if show == nil {
		return func(Progress) {}
	}
	return show
}

// due returns the blobs that a crash can have torn: those that were written, or touched otherwise, since the manifest was last refreshed, or so shortly before that the filesystem may not have had
// them on the disk; those that the manifest does not know, or knows to be damaged. Without a manifest nobody knows when the machine died, but not before the last write that is there: so it is
// those that were written shortly before that.
func due(m *Manifest, seen *Seen, commit time.Duration) []layout.Blob {
	since := m.taken
	if m.Empty() {
		for _, b := range seen.Blobs {
			since = latest(since, b.Modified, b.Changed)
		}
	}
	since = since.Add(-commit)
	var blobs []layout.Blob
	for _, b := range seen.Blobs {
		if b.Size < 0 || seen.Images[b.Digest].hashed {
			continue
		}
		i := m.recorded(b.Digest)
		unknown := !m.Empty() && (i == none || m.blobs[i].changed != timeNano(b.Changed))
		if unknown || latest(b.Modified, b.Changed).After(since) || m.damaged[i] != 0 {
			blobs = append(blobs, b)
		}
	}
	return blobs
}

func latest(times ...time.Time) (t time.Time) {
	for _, other := range times {
		if other.After(t) {
			t = other
		}
	}
	return t
}

// suspects returns what the manifest knows to be damaged and what was not touched since.
func suspects(m *Manifest, seen *Seen) map[registry.Digest]layout.Hashed {
	wrong := make(map[registry.Digest]layout.Hashed)
	for i, at := range m.damaged {
		d := m.digests.keys[i].digest()
		b, ok := seen.Blobs[d]
		if ok && b.Size >= 0 && m.blobs[i].changed == timeNano(b.Changed) {
			since := time.UnixMilli(at).UTC().Format(time.RFC3339)
			wrong[d] = layout.Hashed{Blob: b, Err: fmt.Errorf("it was hashed on %s and was not right: %w", since, mooring.ErrCorrupt)}
		}
	}
	return wrong
}
