package layout

import (
	"context"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/internal/registry"
)

const (
	repositoriesPath = "repositories"
	layersName       = "_layers"
	manifestsName    = "_manifests"
	uploadsName      = "_uploads"
	revisionsName    = "revisions"
	tagsName         = "tags"
	currentName      = "current"
	indexName        = "index"
)

func walkRepositories(_ context.Context, w *walker) { w.tree("") }

// tree walks a directory of repositories/: a repository, a part of the names of others, or both.
func (w *walker) tree(name string) {
	below := path.Join(repositoriesPath, name)
	d, entries, ok := w.list(below)
	if !ok {
		return
	}
	d.close()
	var parts []string
	var children []job
	for _, e := range entries {
		child := path.Join(name, e.name)
		switch {
		case e.kind != unix.DT_DIR:
			w.strange(below, e, "a directory")
		case name != "" && (e.name == layersName || e.name == manifestsName || e.name == uploadsName):
			parts = append(parts, e.name)
		case !isComponent(e.name) || len(child) > maxRepositoryName:
			w.strange(below, e, "a part of a repository's name")
		default:
			children = append(children, func(_ context.Context, w *walker) { w.tree(child) })
		}
	}
	w.queue.push(children...)
	if len(parts) > 0 {
		w.repository(name, parts)
	}
}

// repository leaves the jobs for a repository's parts. Uploads that are under way are not images yet.
func (w *walker) repository(name string, parts []string) {
	r := &repository{Repository: Repository{Name: name}}
	w.mu.Lock()
	w.repositories = append(w.repositories, r)
	w.mu.Unlock()
	below := path.Join(repositoriesPath, name)
	for _, part := range parts {
		switch part {
		case layersName:
			w.queue.push(func(_ context.Context, w *walker) { w.links(path.Join(below, layersName), r, &r.Layers) })
		case manifestsName:
			w.queue.push(
				func(_ context.Context, w *walker) {
					w.links(path.Join(below, manifestsName, revisionsName), r, &r.Revisions)
				},
				func(_ context.Context, w *walker) { w.tags(path.Join(below, manifestsName, tagsName), r) },
			)
		}
	}
}

// How many entries of a directory one job takes: few, because on a cold disk each is waited for, and all walkers should wait at once. A tag has directories of its own.
const (
	linksAtOnce = 2 * batch
	tagsAtOnce  = 4
)

// links reads the links of _layers or revisions, a directory with one directory for each algorithm.
func (w *walker) links(below string, r *repository, into *[]Link) {
	d, entries, ok := w.list(below)
	if !ok {
		return
	}
	d.close()
	for _, e := range entries {
		if e.name != algorithm || e.kind != unix.DT_DIR {
			w.strange(below, e, "the directory "+algorithm)
			continue
		}
		w.algorithm(path.Join(below, algorithm), r, into)
	}
}

func (w *walker) algorithm(below string, r *repository, into *[]Link) {
	d, digests, ok := w.digests(below)
	if !ok {
		return
	}
	d.close()
	var parts []job
	for part := range slices.Chunk(digests, linksAtOnce) {
		parts = append(parts, func(_ context.Context, w *walker) {
			links := w.read(below, part)
			r.mu.Lock()
			defer r.mu.Unlock()
			*into = append(*into, links...)
		})
	}
	w.queue.push(parts...)
}

// read reads the links of some digests.
func (w *walker) read(below string, digests []registry.Digest) []Link {
	d, err := w.root.sub(below)
	if err != nil {
		w.problem(below, err)
		return nil
	}
	defer d.close()
	return w.readLinks(d, below, linksOf(digests))
}

func (w *walker) readLinks(d dir, base string, want []wanted) []Link {
	links, err := readLinks(d, base, want)
	if err != nil {
		w.fail(err)
	}
	return links
}

// tags leaves jobs for a repository's tags.
func (w *walker) tags(below string, r *repository) {
	d, entries, ok := w.list(below)
	if !ok {
		return
	}
	d.close()
	var names []string
	for _, e := range entries {
		if e.kind != unix.DT_DIR || !isTag(e.name) {
			w.strange(below, e, "a directory named after a tag")
			continue
		}
		names = append(names, e.name)
	}
	var parts []job
	for part := range slices.Chunk(names, tagsAtOnce) {
		parts = append(parts, func(ctx context.Context, w *walker) { w.someTags(ctx, below, part, r) })
	}
	w.queue.push(parts...)
}

func (w *walker) someTags(ctx context.Context, below string, names []string, r *repository) {
	d, err := w.root.sub(below)
	if err != nil {
		w.problem(below, err)
		return
	}
	defer d.close()
	current := make([]wanted, len(names))
	for i, name := range names {
		current[i] = wanted{below: path.Join(name, currentName, linkName)}
	}
	links := w.readLinks(d, below, current)
	tags := make([]Tag, len(links))
	for i, l := range links {
		if ctx.Err() != nil {
			return
		}
		tags[i] = Tag{Name: names[i], Current: l, Index: w.index(path.Join(below, names[i], indexName, algorithm))}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Tags = append(r.Tags, tags...)
}

// index reads the links to all that a tag ever was.
func (w *walker) index(below string) []Link {
	d, digests, ok := w.digests(below)
	if !ok {
		return nil
	}
	defer d.close()
	return w.readLinks(d, below, linksOf(digests))
}
