package images

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// The operations of a change, and so of a whole manifest, which is the change that makes it of an empty one. Numbers are varints. A digest is its 32 bytes
// after a 0 where it comes for the first time, and later the number of its first coming, from 1 on.
const (
	opTaken        = 1  // time
	opRound        = 2  // time
	opProved       = 3  // time
	opBlob         = 4  // digest, size+1, changed, verified
	opImage        = 5  // digest, media (as a digest: its text after a 0, or the number of its first coming), subject (0, or 1 and a digest), number of blobs, digests, number of manifests, digests, sizes (0: those of opBlob, or 1 and each blob's+1)
	opForget       = 6  // digest: no blob, and no image's manifest any more
	opRepository   = 7  // name: the four that follow are about it
	opNoRepository = 8  // name
	opRevision     = 9  // digest
	opNoRevision   = 10 // digest
	opTag          = 11 // name, digest, moved
	opNoTag        = 12 // name
	opVerified     = 13 // time in milliseconds, number, digests
	opRight        = 15 // time
	opDamaged      = 16 // digest, time in milliseconds
	opRoom         = 17 // number: so many digests are to come, so that their memory is had at once
	opBehind       = 14 // 1: what came later may have been lost; 0: no more
	opDatabase     = 18 // 1: the tags are a database's; 0: they are the storage's
)

// maxChange is how many bytes a change has at most: four times as many as a manifest of ten million images.
const maxChange = math.MaxUint32

// maxName is the longest name of a repository, a tag or a media type that is read.
const maxName = 255

// change is a change of a manifest in its encoded form. It is made by newChange.
type change struct {
	buf   []byte   // begins with room for the file's first line
	known table    // the digests that came
	first []uint32 // by id: the number of its first coming; 0: it has not come
	came  uint32
	words map[string]uint64
	ops   int // but those that say the time
}

func newChange() *change { return &change{buf: make([]byte, room), words: make(map[string]uint64)} }

// body returns the change without the room before it.
func (c *change) body() []byte { return c.buf[room:] }

func (c *change) uint(n uint64) { c.buf = binary.AppendUvarint(c.buf, n) }

func (c *change) int(n int64) { c.buf = binary.AppendVarint(c.buf, n) }

func (c *change) text(s string) {
	c.uint(uint64(len(s)))
	c.buf = append(c.buf, s...)
}

// word writes a text that comes often.
func (c *change) word(s string) {
	if n, ok := c.words[s]; ok {
		c.uint(n)
		return
	}
	c.words[s] = uint64(len(c.words) + 1)
	c.uint(0)
	c.text(s)
}

func (c *change) op(code byte) {
	c.buf = append(c.buf, code)
	c.ops++
}

func (c *change) digest(k key) {
	i := c.known.intern(k)
	for int(i) >= len(c.first) {
		c.first = append(c.first, 0)
	}
	if c.first[i] != 0 {
		c.uint(uint64(c.first[i]))
		return
	}
	c.came++
	c.first[i] = c.came
	c.uint(0)
	c.buf = append(c.buf, k[:]...)
}

func (c *change) digests(keys []key) {
	c.uint(uint64(len(keys)))
	for _, k := range keys {
		c.digest(k)
	}
}

// at says one of the times.
func (c *change) at(code byte, t time.Time) {
	c.buf = append(c.buf, code)
	c.int(timeNano(t))
}

// flag says whether something is so that holds for all of the manifest.
func (c *change) flag(code byte, is bool) {
	n := uint64(0)
	if is {
		n = 1
	}
	c.buf = append(c.buf, code)
	c.uint(n)
}

func (c *change) blob(k key, b blob) {
	c.op(opBlob)
	c.digest(k)
	c.uint(uint64(b.size + 1))
	c.int(b.changed)
	c.uint(uint64(b.verified))
}

func (c *change) image(k key, media string, subject *key, blobs, manifests []key, sizes []int64) {
	c.op(opImage)
	c.digest(k)
	c.word(media)
	if subject == nil {
		c.uint(0)
	} else {
		c.uint(1)
		c.digest(*subject)
	}
	c.digests(blobs)
	c.digests(manifests)
	if sizes == nil {
		c.uint(0)
		return
	}
	c.uint(1)
	for _, size := range sizes {
		c.uint(uint64(size + 1))
	}
}

func (c *change) named(code byte, name string) {
	c.op(code)
	c.text(name)
}

func (c *change) about(code byte, k key) {
	c.op(code)
	c.digest(k)
}

func (c *change) tag(name string, target key, moved int64) {
	c.named(opTag, name)
	c.digest(target)
	c.int(moved)
}

func (c *change) verified(at time.Time, keys []key) {
	c.op(opVerified)
	c.uint(uint64(at.UnixMilli()))
	c.digests(keys)
}

func (c *change) damaged(k key, at time.Time) {
	c.about(opDamaged, k)
	c.uint(uint64(at.UnixMilli()))
}

// operation is one operation, decoded. Its slices are those of the next one, too.
type operation struct {
	code             byte
	time             time.Time
	name             string
	key, subject     key
	flag             bool // of an image: it has a subject
	blob             blob
	moved, millis    int64 // moved is also opRoom's number
	blobs, manifests []key
	sizes            []int64 // of an image's blobs, as it says them; empty: those that are recorded
}

var (
	errShort = errors.New("it ends in the middle")
	errValue = errors.New("a number or a name is out of bounds")
)

// reader decodes a change. After an error it reads zeros.
type reader struct {
	all  []byte
	rest []byte
	came []uint32 // where the digests that came are in all: a whole manifest has a million
	said []string // the texts that came often
	err  error
}

// decode calls f for each operation of a change, until there is an error.
func decode(encoded []byte, f func(*operation) error) error {
	if len(encoded) > maxChange {
		return fmt.Errorf("%d bytes are too many: %w", len(encoded), errValue)
	}
	r := &reader{all: encoded, rest: encoded}
	var op operation
	for n := 0; len(r.rest) > 0; n++ {
		r.operation(&op)
		if r.err == nil {
			r.err = f(&op)
		}
		if r.err != nil {
			return fmt.Errorf("operation %d: %w", n, r.err)
		}
	}
	return nil
}

func (r *reader) operation(op *operation) {
	op.code = r.rest[0]
	r.rest = r.rest[1:]
	switch op.code {
	case opTaken, opRight, opRound, opProved:
		op.time = nanoTime(r.int())
	case opBlob:
		op.key = r.digest()
		op.blob = blob{size: r.natural() - 1, changed: r.int(), verified: r.natural()}
	case opImage:
		op.key = r.digest()
		op.name = r.word()
		if op.flag = r.flag(); op.flag {
			op.subject = r.digest()
		}
		op.blobs = r.digests(op.blobs[:0])
		op.manifests = r.digests(op.manifests[:0])
		op.sizes = op.sizes[:0]
		if r.flag() {
			for range op.blobs {
				op.sizes = append(op.sizes, r.natural()-1)
			}
		}
	case opForget, opRevision, opNoRevision:
		op.key = r.digest()
	case opRepository, opNoRepository, opNoTag:
		op.name = r.text(1)
	case opTag:
		op.name = r.text(1)
		op.key = r.digest()
		op.moved = r.int()
	case opDamaged:
		op.key = r.digest()
		op.millis = r.natural()
	case opRoom:
		op.moved = min(r.natural(), int64(len(r.rest)/len(op.key)))
	case opBehind, opDatabase:
		op.flag = r.flag()
	case opVerified:
		op.millis = r.natural()
		op.blobs = r.digests(op.blobs[:0])
	default:
		r.fail(fmt.Errorf("unknown operation %d", op.code))
	}
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err, r.rest = err, nil
	}
}

func (r *reader) uint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail(errShort)
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) int() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.fail(errShort)
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// natural reads a number that an int64 can hold.
func (r *reader) natural() int64 {
	n := r.uint()
	if int64(n) < 0 {
		r.fail(errValue)
		return 0
	}
	return int64(n)
}

func (r *reader) flag() bool {
	n := r.uint()
	if n > 1 {
		r.fail(errValue)
	}
	return n == 1
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail(errShort)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) text(least uint64) string {
	n := r.uint()
	if n < least || n > maxName {
		r.fail(errValue)
		return ""
	}
	return string(r.bytes(n))
}

func (r *reader) word() string {
	n := r.uint()
	switch {
	case r.err != nil:
	case n > uint64(len(r.said)):
		r.fail(errValue)
	case n > 0:
		return r.said[n-1]
	default:
		r.said = append(r.said, r.text(0))
		return r.said[len(r.said)-1]
	}
	return ""
}

func (r *reader) digest() key {
	n := r.uint()
	switch {
	case r.err != nil:
		return key{}
	case n > uint64(len(r.came)):
		r.fail(errValue)
		return key{}
	case n > 0:
		at := r.came[n-1]
		return key(r.all[at : int(at)+len(key{})])
	}
	at := len(r.all) - len(r.rest)
	b := r.bytes(uint64(len(key{})))
	if b == nil {
		return key{}
	}
	r.came = append(r.came, uint32(at))
	return key(b)
}

func (r *reader) digests(keys []key) []key {
	n := r.uint()
	if n > uint64(len(r.rest)) { // each takes a byte at least
		r.fail(errShort)
		return keys
	}
	keys = slices.Grow(keys, int(n))
	for range n {
		keys = append(keys, r.digest())
	}
	return keys
}
