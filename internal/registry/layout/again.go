package layout

import (
	"context"
	"errors"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long what looks wrong is left alone before it is looked at again: a registry makes a blob's directory and then its file, and empties a link and then writes it.
const settle = 100 * time.Millisecond

// lookAgain looks once more at everything in the snapshot that looks wrong and would look so if a registry was writing or deleting just then. What is gone meanwhile is taken out.
func (s *scan) lookAgain(ctx context.Context, snap *Snapshot) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if !snap.doubtful() {
		return nil
	}
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for i := range snap.Repositories {
		if err := s.repositoryAgain(ctx, snap, &snap.Repositories[i]); err != nil {
			return err
		}
	}
	return s.blobsAgain(ctx, snap)
}

func (s *scan) repositoryAgain(ctx context.Context, snap *Snapshot, r *Repository) error {
	for _, links := range []*[]Link{&r.Layers, &r.Revisions} {
		if err := s.linksAgain(ctx, snap, links); err != nil {
			return err
		}
	}
	kept := r.Tags[:0]
	for _, t := range r.Tags {
		if err := s.linkAgain(ctx, snap, &t.Current); err != nil {
			return err
		}
		if t.Current.Size < 0 && s.gone(path.Dir(path.Dir(t.Current.Path))) {
			continue
		}
		if err := s.linksAgain(ctx, snap, &t.Index); err != nil {
			return err
		}
		kept = append(kept, t)
	}
	r.Tags = kept
	return nil
}

// doubtful reports whether a registry that is writing may have made the link look wrong, or the blob that it names look lost.
func (l Link) doubtful(snap *Snapshot) bool {
	if l.Problem != "" {
		return true
	}
	_, ok := snap.Blobs[l.Target]
	return !ok
}

func (b Blob) doubtful() bool { return b.Size <= 0 }

func (snap *Snapshot) doubtful() bool {
	wrong := func(l Link) bool { return l.doubtful(snap) }
	for _, r := range snap.Repositories {
		if slices.ContainsFunc(r.Layers, wrong) || slices.ContainsFunc(r.Revisions, wrong) {
			return true
		}
		for _, t := range r.Tags {
			if wrong(t.Current) || slices.ContainsFunc(t.Index, wrong) {
				return true
			}
		}
	}
	for _, b := range snap.Blobs {
		if b.doubtful() {
			return true
		}
	}
	return false
}

// linksAgain reads the doubtful ones of links again, and leaves out those whose directory is gone.
func (s *scan) linksAgain(ctx context.Context, snap *Snapshot, links *[]Link) error {
	kept := (*links)[:0]
	for _, l := range *links {
		if err := s.linkAgain(ctx, snap, &l); err != nil {
			return err
		}
		if l.Size >= 0 || !s.gone(path.Dir(l.Path)) {
			kept = append(kept, l)
		}
	}
	*links = kept
	return nil
}

// linkAgain reads a link again if it is doubtful, and asks for its blob if that was not found: its directory may have been listed before it came.
func (s *scan) linkAgain(ctx context.Context, snap *Snapshot, l *Link) (err error) {
	if !l.doubtful(snap) {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if *l, err = readLink(s.root, l.Path, l.Name); err != nil || !l.doubtful(snap) || l.Target == "" {
		return err
	}
	b, err := s.root.blob(l.Target)
	if err == nil {
		snap.Blobs[l.Target] = b
	}
	return shortage(err)
}

// blobsAgain asks again for blobs that had no file, or an empty one, and takes out those whose directory is gone. What else is wrong with one is among the snapshot's problems.
func (s *scan) blobsAgain(ctx context.Context, snap *Snapshot) error {
	for digest, b := range snap.Blobs {
		if !b.doubtful() {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		b, err := s.root.blob(digest)
		if err := shortage(err); err != nil {
			return err
		}
		if b.Size < 0 && s.gone(blobDir(digest)) {
			delete(snap.Blobs, digest)
			continue
		}
		snap.Blobs[digest] = b
	}
	return nil
}

// shortage returns the error if it says nothing about the storage.
func shortage(err error) error {
	if isShortage(err) {
		return err
	}
	return nil
}

func (s *scan) gone(below string) bool {
	_, err := s.root.statAny(below)
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}
