package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/config"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/supervisor"
	"github.com/mooring-sh/mooring/supervisor/images"
)

const (
	// Between two looks at what has changed lies a hundred times what the last one took, within these bounds: so it takes little, and what was pushed is seen within seconds.
	keepSoonest = 2 * time.Second
	keepLatest  = 5 * time.Second
	keepShare   = 100
	// keepAsked is how often a database is asked that has the tags, while nothing is pushed.
	keepAsked = 30 * time.Second
	// keepPatience is how long the manifest may not be kept before that is an error: a database is restarted now and then.
	keepPatience = time.Minute
)

// registryImages are the images of the stack's registry on this machine: the supervisor's [supervisor.Images].
type registryImages struct {
	records string // where the manifest is kept
	pace    layout.Pace
	holders holders
	stack   runner
	log     *slog.Logger

	mu     sync.Mutex
	prover *images.Prover // nil: there is none yet
	of     supervisor.Storage
	dir    string // that the prover is for
	users  int    // of the prover
	tags   *tags
	btrfs  bool
	fresh  bool // nothing was found out in this process
	found  found
	state  supervisor.ImagesState
	// gone is how many images the manifest has while the storage had no registry in it at all: then it is not refreshed, or it would forget them.
	gone int
	// empty is when tier 3 was to begin and nothing had ever been pushed: then all that there was is hashed.
	empty time.Time
}

func newRegistryImages(cfg config.Images, p *plugin, stack runner, log *slog.Logger) *registryImages {
	return &registryImages{
		records: cfg.ManifestDir, stack: stack, log: log, fresh: true,
		pace:    layout.Pace{Direct: true, Idle: true, BytesPerSecond: int64(cfg.RehashRate) * 1e6},
		holders: holders{view: p.volume, every: watchEvery, unheld: unheldLimit},
	}
}

// Observe implements [supervisor.Images].
func (r *registryImages) Observe() supervisor.ImagesState {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	if r.prover != nil {
		last := r.prover.Last()
		s.Rehashed = last.Proved
		if s.Rehashed.IsZero() {
			s.Rehashed = r.empty
		}
		for _, text := range last.Records {
			s.Conditions = append(s.Conditions, admin.Condition{
				Code: "manifest-records", Severity: admin.Warning, Title: "the manifest's records are not in order", Text: text,
				Cure: "look at the disks (df; dmesg); the records are written anew when images are pushed",
			})
		}
	}
	if r.btrfs {
		s.Conditions = append(s.Conditions, admin.Condition{
			Code: "registry-btrfs", Severity: admin.Warning, Title: "the registry's storage is btrfs",
			Text: "A push that was acknowledged may be lost on btrfs when the machine dies: the registry renames files and does not sync their directories",
			Cure: "move the images to a volume with ext4 or xfs",
		})
	}
	return s
}

// close lets the records go.
func (r *registryImages) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.prover == nil {
		return nil
	}
	return r.prover.Close()
}

// use holds the storage, and lends its prover to work that can wait, or cannot. The error is that of the work, or why there was none.
func (r *registryImages) use(ctx context.Context, s supervisor.Storage, canWait bool, work func(context.Context, *images.Prover) error) error {
	held, h, err := r.holders.take(ctx, s, canWait)
	if err != nil {
		return err
	}
	p, err := r.borrow(s, h)
	if err == nil {
		err = work(held, p)
		if cause := context.Cause(held); err != nil && errors.Is(cause, errWanted) {
			err = cause
		}
		r.mu.Lock()
		r.users--
		r.mu.Unlock()
	}
	return errors.Join(err, h.release())
}

// borrow returns the prover of the storage. It is made when the storage is mounted, for the manifest is beside the images, too.
func (r *registryImages) borrow(s supervisor.Storage, h *hold) (*images.Prover, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.btrfs = h.btrfs
	if r.prover != nil && r.of == s && r.dir == h.dir {
		r.users++
		return r.prover, nil
	}
	if r.users > 0 {
		return nil, fmt.Errorf("the registry's storage is another now, and the one before is still being read: %w", mooring.ErrInUse)
	}
	if r.prover != nil {
		if err := r.prover.Close(); err != nil {
			return nil, err
		}
		r.prover = nil
	}
	setup := images.Setup{Storage: h.dir, Records: r.records}
	if r.tags = nil; s.Tags != "" {
		r.tags = newTags(r.stack, s.Tags)
		setup.Tags, setup.Asked = r.tags, keepAsked
	}
	p, err := images.NewProver(setup)
	if err != nil {
		return nil, err
	}
	r.prover, r.of, r.dir, r.users = p, s, h.dir, 1
	return p, nil
}

// Verify implements [supervisor.Images].
func (r *registryImages) Verify(ctx context.Context, s supervisor.Storage) error {
	return r.use(ctx, s, false, func(ctx context.Context, p *images.Prover) error {
		before := p.Last()
		defer r.idle()
		v, err := p.Verify(ctx, r.show(0))
		gone := 0
		switch {
		case errors.Is(err, mooring.ErrNotFound):
			if v, err = r.emptied(); err != nil {
				return err
			}
			gone = v.Images
		case v.At.IsZero():
			return err
		}
		r.judged(before.Taken, v, gone)
		return nil // what could not be recorded, the prover's last says
	})
}

// emptied is the verdict on a storage that has no registry in it: all that the manifest has is lost. Without a manifest nothing was ever pushed.
func (r *registryImages) emptied() (images.Verdict, error) {
	v := images.Verdict{At: time.Now()}
	m, _, err := images.ReadManifest(r.records)
	if errors.Is(err, mooring.ErrNotFound) {
		return v, nil
	}
	if err != nil {
		return images.Verdict{}, err
	}
	for e := range m.Entries() {
		v.Images++
		v.Findings = append(v.Findings, images.Finding{
			Repository: e.Repository, Tag: e.Tag, Image: e.Digest, Digest: e.Digest, Kind: images.ImageMissing, LastRight: m.Taken(),
			Text: "the storage has no registry in it: is this the right volume?",
		})
	}
	return v, nil
}

// judged takes a verification's verdict over. So many images are gone with the whole registry.
func (r *registryImages) judged(manifest time.Time, v images.Verdict, gone int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	verdict := supervisor.Verdict{
		At: time.Now(), Manifest: manifest, Images: v.Images, Intact: v.Intact, Gone: len(v.Gone), Blobs: v.Blobs, Size: v.Bytes, Hashed: v.Hashed, Bytes: v.HashedBytes,
		Tags: mooring.Yes, Notes: slices.Clone(v.Notes[:min(len(v.Notes), mostNotes)]),
	}
	if r.tags != nil {
		verdict.Tags, verdict.TagsErr = r.tags.told()
	}
	r.state.Verdict = verdict
	r.state.New, r.state.Gone = addChanges(r.state.New, v.New), addChanges(r.state.Gone, v.Gone)
	r.found, r.gone = newFound(v.Findings), gone
	r.publish()
	r.log.Info("images verified", "images", v.Images, "intact", v.Intact, "findings", len(v.Findings), "blobs", v.Blobs, "hashed", v.HashedBytes)
}

// Keep implements [supervisor.Images].
func (r *registryImages) Keep(ctx context.Context, s supervisor.Storage) error {
	r.mu.Lock()
	gone := r.gone
	r.mu.Unlock()
	if gone > 0 {
		return fmt.Errorf("the storage had no registry in it when it was verified, and the manifest has %d images: %w", gone, mooring.ErrNotFound)
	}
	right := time.Now()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		begun := time.Now()
		err := r.use(ctx, s, true, func(ctx context.Context, p *images.Prover) error {
			v, err := p.Refresh(ctx)
			if err == nil {
				r.refreshed(v)
			}
			return err
		})
		switch {
		case ctx.Err() != nil, letGo(err):
			return nil
		case err == nil, errors.Is(err, mooring.ErrNotFound): // nothing was ever pushed
			right = time.Now()
		case time.Since(right) >= keepPatience:
			return err
		}
		next.Reset(min(max(keepSoonest, keepShare*time.Since(begun)), keepLatest))
	}
}

// refreshed takes over what was found wrong while the manifest was kept. The first look of this process is at everything. What is not whole and was not there before is perhaps being pushed.
func (r *registryImages) refreshed(v images.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	standing := slices.DeleteFunc(slices.Clone(v.Findings), func(f images.Finding) bool { return f.Unfinished })
	switch {
	case r.fresh:
		r.found = newFound(standing)
	case !r.found.add(standing):
		return
	}
	r.publish()
}

// Rehash implements [supervisor.Images].
func (r *registryImages) Rehash(ctx context.Context, s supervisor.Storage) error {
	err := r.use(ctx, s, true, func(held context.Context, p *images.Prover) error {
		defer r.idle()
		v, err := p.Rehash(held, r.pace, r.show(3))
		r.mu.Lock()
		defer r.mu.Unlock()
		switch {
		case errors.Is(err, mooring.ErrNotFound) && p.Last().Manifest.Images == 0:
			r.empty = time.Now()
			return nil
		case ctx.Err() != nil || err != nil:
			return err
		}
		r.found = newFound(slices.DeleteFunc(slices.Clone(v.Findings), func(f images.Finding) bool { return f.Unfinished }))
		r.publish()
		r.log.Info("all blobs hashed", "images", v.Images, "intact", v.Intact, "findings", len(v.Findings))
		return nil
	})
	if letGo(err) || errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// letGo says that the storage had to be let go.
func letGo(err error) bool { return errors.Is(err, errWanted) || errors.Is(err, errUnmounted) }

// publish makes what was found what Observe tells. The caller holds the mutex.
func (r *registryImages) publish() {
	r.fresh = false
	r.state.Findings, r.state.Damage = r.found.tell(time.Now())
}

// show returns what keeps the progress of tier 3, or of tiers 1 and 2 for 0.
func (r *registryImages) show(tier int) func(images.Progress) {
	return func(p images.Progress) {
		now := supervisor.Progress{Tier: tier, What: p.What, Done: p.Done, All: p.All, Bytes: p.Bytes, AllBytes: p.AllBytes, Left: p.Left}
		if tier == 0 {
			now.Tier = 1
			if p.AllBytes > 0 {
				now.Tier = 2
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.state.Progress = now
	}
}

// idle says that no tier runs.
func (r *registryImages) idle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Progress = supervisor.Progress{}
}
