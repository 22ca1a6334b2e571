package images

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
)

var errNoRepository = errors.New("it is about no repository")

// check reports whether a change can be applied, without doing it.
func check(encoded []byte) error {
	inRepository := false
	return decode(encoded, func(op *operation) error {
		switch op.code {
		case opRepository:
			inRepository = true
		case opNoRepository:
			inRepository = false
		case opRevision, opNoRevision, opTag, opNoTag:
			if !inRepository {
				return errNoRepository
			}
		}
		return nil
	})
}

// apply changes the manifest: wholly, or not at all if the change cannot be read.
func (m *Manifest) apply(encoded []byte) error {
	if err := check(encoded); err != nil {
		return err
	}
	if m.repositories == nil {
		m.repositories = make(map[string]*repository)
		m.images = make(map[id]image)
		m.damaged = make(map[id]int64)
		m.words = make(map[string]string)
	}
	var r *repository
	return decode(encoded, func(op *operation) error {
		switch op.code {
		case opRepository:
			r = m.repository(op.name)
		case opNoRepository:
			delete(m.repositories, op.name)
			r = nil
		case opRevision:
			r.revisions[m.id(op.key)] = struct{}{}
		case opNoRevision:
			delete(r.revisions, m.digests.find(op.key))
		case opTag:
			r.tags[op.name] = tag{target: m.id(op.key), moved: op.moved}
		case opNoTag:
			delete(r.tags, op.name)
		default:
			m.applyGlobal(op)
		}
		return nil
	})
}

// applyGlobal applies what is about no repository.
func (m *Manifest) applyGlobal(op *operation) {
	switch op.code {
	case opRoom:
		m.digests.room(int(op.moved))
		m.blobs = slices.Grow(m.blobs, int(op.moved))
	case opTaken:
		m.taken = op.time
	case opRight:
		m.right = op.time
	case opRound:
		m.round = op.time
	case opProved:
		m.proved = op.time
	case opBehind:
		m.behind = op.flag
	case opDatabase:
		m.database = op.flag
	case opBlob:
		i := m.id(op.key) // it may move m.blobs
		m.pin(i, op.blob.size)
		if op.blob.verified > m.blobs[i].verified {
			delete(m.damaged, i)
		}
		m.blobs[i] = op.blob
	case opDamaged:
		if i := m.id(op.key); m.damaged[i] == 0 {
			m.damaged[i] = op.millis
		}
	case opForget:
		if i := m.digests.find(op.key); i != none {
			m.blobs[i] = blob{size: unrecorded}
			delete(m.images, i)
			delete(m.damaged, i)
		}
	case opImage:
		img := image{media: m.word(op.name), subject: none, blobs: m.ids(op.blobs), manifests: m.ids(op.manifests), sizes: slices.Clone(op.sizes)}
		if len(op.sizes) == 0 {
			img.sizes = nil
		}
		if op.flag {
			img.subject = m.id(op.subject)
		}
		i := m.id(op.key)
		m.images[i] = img
		if m.blobs[i].size == unrecorded {
			m.blobs[i].size = unknownSize
		}
	case opVerified:
		for _, k := range op.blobs {
			if i := m.digests.find(k); i != none && m.blobs[i].size != unrecorded {
				m.blobs[i].verified = op.millis
				delete(m.damaged, i)
			}
		}
	}
}

// pin has the images that need a blob remember which size they say that it has, before another is recorded.
func (m *Manifest) pin(i id, size int64) {
	if m.blobs[i].size < 0 || m.blobs[i].size == size {
		return
	}
	for at, img := range m.images {
		if img.sizes != nil || !slices.Contains(img.blobs, i) {
			continue
		}
		img.sizes = make([]int64, len(img.blobs))
		for n, b := range img.blobs {
			img.sizes[n] = max(m.blobs[b].size, unknownSize)
		}
		m.images[at] = img
	}
}

func (m *Manifest) repository(name string) *repository {
	r, ok := m.repositories[name]
	if !ok {
		r = &repository{revisions: make(map[id]struct{}), tags: make(map[string]tag)}
		m.repositories[name] = r
	}
	return r
}

// id returns the digest's id, and makes place for its blob.
func (m *Manifest) id(k key) id {
	i := m.digests.intern(k)
	for int(i) >= len(m.blobs) {
		m.blobs = append(m.blobs, blob{size: unrecorded})
	}
	return i
}

func (m *Manifest) ids(keys []key) []id {
	if len(keys) == 0 {
		return nil
	}
	ids := make([]id, len(keys))
	for i, k := range keys {
		ids[i] = m.id(k)
	}
	return ids
}

func (m *Manifest) word(s string) string {
	if w, ok := m.words[s]; ok {
		return w
	}
	m.words[s] = s
	return s
}

// whole returns the change that makes the manifest of an empty one. It is the same for the same content, and has no digest that nothing needs any more.
func (m *Manifest) whole() *change {
	c := &change{known: m.digests, first: make([]uint32, len(m.digests.keys)), words: make(map[string]uint64)}
	c.buf = make([]byte, room, room+56*len(m.blobs)+48*len(m.images))
	live := 0
	for i := range m.blobs {
		if m.blobs[i].size != unrecorded {
			live++
		}
	}
	c.buf = append(c.buf, opRoom)
	c.uint(uint64(live))
	c.at(opTaken, m.taken)
	c.at(opRight, m.right)
	c.at(opRound, m.round)
	c.at(opProved, m.proved)
	c.flag(opBehind, m.behind)
	c.flag(opDatabase, m.database)
	order := m.order()
	for _, i := range order {
		if m.blobs[i].size != unrecorded {
			c.blob(m.digests.keys[i], m.blobs[i])
		}
	}
	for _, i := range order {
		if at, ok := m.damaged[i]; ok {
			c.about(opDamaged, m.digests.keys[i])
			c.uint(uint64(at))
		}
	}
	for _, i := range order {
		if img, ok := m.images[i]; ok {
			var subject *key
			if img.subject != none {
				subject = &m.digests.keys[img.subject]
			}
			c.image(m.digests.keys[i], img.media, subject, m.keys(img.blobs), m.keys(img.manifests), img.sizes)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.repositories)) {
		c.named(opRepository, name)
		m.wholeRepository(c, m.repositories[name])
	}
	return c
}

// compact forgets the digests that nothing needs any more, if they are most of all.
func (m *Manifest) compact() {
	live := 0
	for i := range m.blobs {
		if m.blobs[i].size != unrecorded {
			live++
		}
	}
	const few = 10_000
	if dead := len(m.blobs) - live; dead < few || dead < live {
		return
	}
	fresh := new(Manifest)
	if err := fresh.apply(m.whole().body()); err == nil { // else it stays as large as it is
		*m = *fresh
	}
}

func (m *Manifest) wholeRepository(c *change, r *repository) {
	revisions := m.keys(slices.Collect(maps.Keys(r.revisions)))
	slices.SortFunc(revisions, func(a, b key) int { return bytes.Compare(a[:], b[:]) })
	for _, k := range revisions {
		c.about(opRevision, k)
	}
	for _, name := range slices.SortedFunc(maps.Keys(r.tags), strings.Compare) {
		t := r.tags[name]
		c.tag(name, m.digests.keys[t.target], t.moved)
	}
}

// order returns all ids in the order of their digests.
func (m *Manifest) order() []id {
	ids := make([]id, len(m.digests.keys))
	for i := range ids {
		ids[i] = id(i)
	}
	slices.SortFunc(ids, func(a, b id) int { return bytes.Compare(m.digests.keys[a][:], m.digests.keys[b][:]) })
	return ids
}

func (m *Manifest) keys(ids []id) []key {
	keys := make([]key, len(ids))
	for i, d := range ids {
		keys[i] = m.digests.keys[d]
	}
	return keys
}
