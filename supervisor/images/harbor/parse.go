package harbor

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// parser reads rows in COPY's text format as they come: fields between tabs, rows between line breaks.
type parser struct {
	rest []byte // of a row that has not come to its end
	line int
	err  error

	repositories map[int64]*images.RowRepository
	images       map[int64]artifact
	parts        map[int64][]registry.Digest
	tags         []tagRow
	wanted       []need
	got, said    map[string]int64 // rows of each kind, and how many the database counted
}

// artifact is an image, and the ID of its repository.
type artifact struct {
	images.RowImage

	repository int64
}

// tagRow is a tag, by IDs.
type tagRow struct {
	repository, artifact int64
	name                 string
	pushed               time.Time
}

// need is a blob that an image needs.
type need struct {
	image registry.Digest
	ref   images.Ref
}

func newParser() *parser {
	return &parser{
		repositories: make(map[int64]*images.RowRepository), images: make(map[int64]artifact), parts: make(map[int64][]registry.Digest),
		got: make(map[string]int64), said: make(map[string]int64),
	}
}

// maxRow is how many bytes a row has at most: names have up to 255 characters.
const maxRow = 16 << 10

// Write takes what psql prints. It never fails, so that psql comes to its end; the first error is told afterwards.
func (p *parser) Write(data []byte) (int, error) {
	n := len(data)
	for p.err == nil && len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		p.rest = append(p.rest, line...)
		data = rest
		if len(p.rest) > maxRow {
			p.err = fmt.Errorf("row %d is longer than %d bytes: %w", p.line+1, maxRow, mooring.ErrCorrupt)
		}
		if !whole {
			break
		}
		p.line++
		if err := p.row(string(p.rest)); err != nil && p.err == nil {
			p.err = fmt.Errorf("row %d: %w: %w", p.line, err, mooring.ErrCorrupt)
		}
		p.rest = p.rest[:0]
	}
	return n, nil
}

// row takes one row.
func (p *parser) row(text string) error {
	f := fields{rest: text, more: true}
	kind := f.text()
	switch kind {
	case "repository":
		p.repository(&f)
	case "image":
		p.image(&f)
	case "tag":
		t := tagRow{repository: f.number(), artifact: f.number(), name: f.name(), pushed: f.time()}
		p.tags = append(p.tags, t)
	case "part":
		parent := f.number()
		p.parts[parent] = append(p.parts[parent], f.digest())
	case "need":
		p.wanted = append(p.wanted, need{image: f.digest(), ref: images.Ref{Digest: f.digest(), Size: f.number()}})
	case "count":
		of := f.text()
		if _, twice := p.said[of]; twice {
			f.fail("the rows are counted twice")
		}
		p.said[of] = f.number()
		return f.end()
	default:
		f.fail("unknown kind %q", kind)
	}
	p.got[kind]++
	return f.end()
}

func (p *parser) repository(f *fields) {
	id, name := f.number(), f.name()
	if _, twice := p.repositories[id]; twice {
		f.fail("the repository %d comes twice", id)
	}
	p.repositories[id] = &images.RowRepository{Name: name}
}

func (p *parser) image(f *fields) {
	id := f.number()
	if _, twice := p.images[id]; twice {
		f.fail("the artifact %d comes twice", id)
	}
	a := artifact{repository: f.number()}
	a.Digest, a.Media = f.digest(), f.text()
	p.images[id] = a
}

// whole reports what is missing of the answer.
func (p *parser) whole(kinds ...string) error {
	switch {
	case p.err != nil:
		return p.err
	case len(p.rest) > 0:
		return fmt.Errorf("the answer ends in the middle of row %d: %w", p.line+1, mooring.ErrCorrupt)
	}
	for _, kind := range kinds {
		if said, ok := p.said[kind]; !ok || said != p.got[kind] {
			return fmt.Errorf("got %d rows of %s, and the database counted %d: the answer was cut off: %w", p.got[kind], kind, said, mooring.ErrCorrupt)
		}
	}
	return nil
}

// rows puts together what came.
func (p *parser) rows() (*images.Rows, error) {
	if err := p.whole("repository", "image", "tag", "part"); err != nil {
		return nil, err
	}
	for id, a := range p.images {
		r := p.repositories[a.repository]
		if r == nil {
			return nil, fmt.Errorf("artifact %d is in repository %d, which is not there: %w", id, a.repository, mooring.ErrCorrupt)
		}
		a.Parts = p.parts[id]
		slices.Sort(a.Parts)
		r.Images = append(r.Images, a.RowImage)
	}
	for id := range p.parts {
		if _, ok := p.images[id]; !ok {
			return nil, fmt.Errorf("artifact %d has parts and is not there: %w", id, mooring.ErrCorrupt)
		}
	}
	for _, t := range p.tags {
		r, a := p.repositories[t.repository], p.images[t.artifact]
		if r == nil || a.Digest == "" || a.repository != t.repository {
			return nil, fmt.Errorf("the tag %s names artifact %d of repository %d, which is not there: %w", t.name, t.artifact, t.repository, mooring.ErrCorrupt)
		}
		r.Tags = append(r.Tags, images.RowTag{Name: t.name, Target: a.Digest, Pushed: t.pushed})
	}
	return sorted(p.repositories)
}

// sorted sorts everything, and refuses what is there twice.
func sorted(repositories map[int64]*images.RowRepository) (*images.Rows, error) {
	all := &images.Rows{}
	for _, r := range slices.SortedFunc(maps.Values(repositories), func(a, b *images.RowRepository) int { return cmp.Compare(a.Name, b.Name) }) {
		slices.SortFunc(r.Images, func(a, b images.RowImage) int { return cmp.Compare(a.Digest, b.Digest) })
		slices.SortFunc(r.Tags, func(a, b images.RowTag) int { return cmp.Compare(a.Name, b.Name) })
		n := len(all.Repositories)
		switch {
		case n > 0 && all.Repositories[n-1].Name == r.Name:
			return nil, fmt.Errorf("the repository %s is there twice: %w", r.Name, mooring.ErrCorrupt)
		case len(slices.CompactFunc(slices.Clone(r.Images), func(a, b images.RowImage) bool { return a.Digest == b.Digest })) < len(r.Images):
			return nil, fmt.Errorf("an artifact of %s is there twice: %w", r.Name, mooring.ErrCorrupt)
		case len(slices.CompactFunc(slices.Clone(r.Tags), func(a, b images.RowTag) bool { return a.Name == b.Name })) < len(r.Tags):
			return nil, fmt.Errorf("a tag of %s is there twice: %w", r.Name, mooring.ErrCorrupt)
		}
		all.Repositories = append(all.Repositories, *r)
	}
	return all, nil
}

// needs adds what came to all.
func (p *parser) needs(all map[registry.Digest][]images.Ref) error {
	if err := p.whole("need"); err != nil {
		return err
	}
	for _, n := range p.wanted {
		all[n.image] = append(all[n.image], n.ref)
	}
	return nil
}

// parseMark checks that the answer is one row of numbers, and returns it.
func parseMark(answer []byte) (string, error) {
	line, rest, whole := strings.Cut(string(answer), "\n")
	f := fields{rest: line, more: true}
	if f.text() != "mark" || !whole || rest != "" {
		return "", fmt.Errorf("got %q, want one row: %w", clip(answer), mooring.ErrCorrupt)
	}
	for range 7 {
		f.number()
	}
	if err := f.end(); err != nil {
		return "", fmt.Errorf("%w: %w", err, mooring.ErrCorrupt)
	}
	return line, nil
}

func clip(b []byte) string {
	const most = 100
	return string(b[:min(len(b), most)])
}

// fields reads the fields of a row. After an error it reads nothing more.
type fields struct {
	rest string
	more bool
	err  error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}

// text reads a field. COPY writes a backslash before what would end one, and for a null; Harbor writes neither where it is read here.
func (f *fields) text() string {
	if f.err != nil || !f.more {
		f.fail("it has too few fields")
		return ""
	}
	var field string
	field, f.rest, f.more = strings.Cut(f.rest, "\t")
	if strings.Contains(field, `\`) {
		f.fail("a field is null, or has a character that Harbor does not write: %q", field)
	}
	return field
}

// name reads the name of a repository or a tag.
func (f *fields) name() string {
	name := f.text()
	const most = 255
	if f.err == nil && (name == "" || len(name) > most || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f })) {
		f.fail("%q is no name", name)
	}
	return name
}

func (f *fields) number() int64 {
	text := f.text()
	if f.err != nil {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		f.fail("%q is no number that can be here", text)
		return 0
	}
	return n
}

func (f *fields) digest() registry.Digest {
	text := f.text()
	if f.err != nil {
		return ""
	}
	d, err := registry.ParseDigest(text)
	if err != nil {
		f.fail("%w", err)
	}
	return d
}

// time reads microseconds since 1970. A tag of an ancient Harbor may have none.
func (f *fields) time() time.Time {
	if f.err == nil && f.more && f.rest == `\N` {
		f.rest, f.more = "", false
		return time.Time{}
	}
	if n := f.number(); f.err == nil && n > 0 {
		return time.UnixMicro(n)
	}
	return time.Time{}
}

// end reports the first error, one of them that there are fields left.
func (f *fields) end() error {
	if f.err == nil && f.more {
		f.fail("it has too many fields")
	}
	return f.err
}
