package images

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// formatVersion is the version of what a file holds. The first line keeps its form in every version, so that a file of a newer Mooring is told from a damaged one.
const formatVersion = 1

// firstLine is the form of a file's first line: format version, number and length. The SHA-256 after it is that of the line up to it, a newline, and the rest of the file.
const firstLine = "mooring-manifest format=%d number=%d bytes=%d"

const sumField = " sha256="

// damagedSuffix is added to the name of a file that could not be read, when its place is needed.
const damagedSuffix = ".damaged"

// wholeFile returns the path of one of a place's two whole manifests.
func wholeFile(dir string, slot int) string {
	return filepath.Join(dir, "manifest."+strconv.Itoa(slot))
}

const changePrefix = "change."

// changeFile returns the path of a change, by the number that the manifest has after it.
func changeFile(dir string, number uint64) string {
	return filepath.Join(dir, changePrefix+strconv.FormatUint(number, 10))
}

// room is how many bytes a first line has at most.
const room = 256

// seal returns the file for a change, or for a whole manifest. It is built in the change's own room, because a whole manifest has tens of megabytes.
func seal(number uint64, c *change) []byte {
	head := fmt.Sprintf(firstLine, formatVersion, number, len(c.body()))
	line := slices.Concat([]byte(head), []byte(sumField), sum(head, c.body()), []byte("\n"))
	begin := room - len(line)
	copy(c.buf[begin:], line)
	return c.buf[begin:]
}

func sum(head string, body []byte) []byte {
	h := sha256.New()
	h.Write([]byte(head + "\n"))
	h.Write(body)
	return hex.AppendEncode(nil, h.Sum(nil))
}

// newerError says that a whole file was written by a Mooring that knows more than this one.
type newerError struct{ version int }

func (e newerError) Error() string {
	return fmt.Sprintf("is of format %d, and this Mooring knows none above %d: install the newer Mooring again", e.version, formatVersion)
}

// unseal returns what a file holds. Any error but a newerError means that the file is damaged; number is then what it claims to be, or 0.
func unseal(data []byte) (number uint64, body []byte, err error) {
	line, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return 0, nil, fmt.Errorf("has no first line (%d bytes)", len(data))
	}
	head, want, ok := bytes.Cut(line, []byte(sumField))
	if !ok {
		return 0, nil, errors.New("its first line has no checksum")
	}
	var version, length int
	if _, err := fmt.Sscanf(string(head), firstLine, &version, &number, &length); err != nil {
		return 0, nil, fmt.Errorf("its first line: %w", err)
	}
	if length != len(body) {
		return number, nil, fmt.Errorf("has %d bytes, its first line says %d", len(body), length)
	}
	if got := sum(string(head), body); !bytes.Equal(got, want) {
		return number, nil, fmt.Errorf("its SHA-256 is %s, its first line says %q", got, want)
	}
	if version > formatVersion {
		return number, nil, newerError{version}
	}
	return number, body, nil
}

// found is a file of a place as it was found.
type found struct {
	path   string
	number uint64
	size   int
	absent bool
	damage error // not nil: the file cannot be used; it names the file
}

// files reads files into one piece of memory: what was read is good until the next is.
type files struct{ buf []byte }

// read reads a file and checks it whole.
func (r *files) read(path string) (found, []byte) {
	f := found{path: path}
	data, err := r.all(path)
	if errors.Is(err, fs.ErrNotExist) {
		f.absent = true
		return f, nil
	}
	var body []byte
	if err == nil {
		f.size = len(data)
		f.number, body, err = unseal(data)
	}
	if err == nil {
		err = check(body)
	}
	if err != nil {
		f.damage = fmt.Errorf("%s %w", path, err)
	}
	return f, body
}

func (r *files) all(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if info.Size() > maxChange {
		return nil, errors.Join(fmt.Errorf("%d bytes are too many: %w", info.Size(), errValue), f.Close())
	}
	r.buf = slices.Grow(r.buf[:0], int(info.Size()))[:info.Size()]
	_, err = io.ReadFull(f, r.buf)
	return r.buf, errors.Join(err, f.Close())
}

// changesIn returns the numbers of the changes in a place, in their order. A place that is not there has none.
func changesIn(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), changePrefix)
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}
