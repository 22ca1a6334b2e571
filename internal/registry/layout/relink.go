package layout

import (
	"fmt"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
)

// Relink makes a link say to, durably and at once, and makes the directories that it lacks. l says which link, and what it was when it was judged: the error wraps [mooring.ErrInUse] if it is not so any
// more. What it said is kept under docker/registry/mooring-aside, if it was anything. The new file belongs to whom the directory belongs.
func (s *Storage) Relink(l Link, to registry.Digest) error {
	if err := s.relink(l, to); err != nil {
		return fmt.Errorf("relink %s: %w", l.Path, err)
	}
	return nil
}

func (s *Storage) relink(l Link, to registry.Digest) error {
	if path.Base(l.Path) != linkName || !filepath.IsLocal(l.Path) {
		return fmt.Errorf("it is no link: %w", mooring.ErrInvalid)
	}
	if _, err := registry.ParseDigest(string(to)); err != nil {
		return err
	}
	root, err := s.root()
	if err != nil {
		return err
	}
	defer root.close()
	if err := unchanged(root, l); err != nil {
		return err
	}
	owner, err := root.owner()
	if err != nil {
		return err
	}
	target, err := root.makeAll(path.Dir(l.Path), owner)
	if err != nil {
		return err
	}
	defer target.close()
	if owner, err = target.owner(); err != nil {
		return err
	}
	return s.withTemp(root, registry.DigestOf([]byte(l.Path)).Hex(), owner, func(t temp) error {
		if l.Size > 0 {
			if err := s.keep(root, target, path.Dir(l.Path)); err != nil {
				return err
			}
		}
		if err := t.write(string(to)); err != nil {
			return err
		}
		if err := again(func() error { return unix.Renameat(t.dir.fd, t.name, target.fd, linkName) }); err != nil {
			return err
		}
		return target.sync()
	})
}

// unchanged reports whether the link is still what it was when it was judged.
func unchanged(root dir, l Link) error {
	now, err := readLink(root, l.Path, l.Name)
	if err != nil {
		return err
	}
	if now.Size != l.Size || now.Target != l.Target || !now.Changed.Equal(l.Changed) {
		return fmt.Errorf("it changed meanwhile: %w", mooring.ErrInUse)
	}
	return nil
}

// keep gives a link's file a second name under docker/registry/mooring-aside, before it loses its first.
func (s *Storage) keep(root, from dir, below string) error {
	to, err := s.asideOf(root, below)
	if err != nil {
		return err
	}
	defer to.close()
	if _, err := freeName(linkName, func(name string) error { return unix.Linkat(from.fd, linkName, to.fd, name, 0) }); err != nil {
		return fmt.Errorf("keep it aside: %w", err)
	}
	return to.sync()
}
