package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/mooring-sh/mooring"
)

// formatVersion is the version of what a file holds. The first line keeps its form in every version, so that a file of a newer
// Mooring is told from a damaged one. Whatever an older Mooring could not keep when it writes the file again needs a new version.
const formatVersion = 1

// firstLine is the form of a file's first line: format version, generation, length and SHA-256. The sum is that of the line up to
// it, a newline, and the rest of the file.
const firstLine = "mooring-ledger format=%d generation=%d bytes=%d"

const sumField = " sha256="

// document is the rest of the file.
type document struct {
	meta

	Records []json.RawMessage `json:"records"`
}

// generation is the content of one file.
type generation struct {
	number  uint64
	meta    meta
	records map[mooring.Name]entry
}

// file returns the path of one of the two files.
func file(dir string, i int) string { return filepath.Join(dir, "ledger."+strconv.Itoa(i)) }

// encode returns the file of a generation. Records come in the order of their names.
func encode(number uint64, m meta, records map[mooring.Name]entry) ([]byte, error) {
	doc := document{meta: m, Records: make([]json.RawMessage, 0, len(records))}
	for _, name := range slices.Sorted(maps.Keys(records)) {
		doc.Records = append(doc.Records, records[name].bytes)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode the ledger: %w", err)
	}
	head := fmt.Sprintf(firstLine, formatVersion, number, len(body))
	return slices.Concat([]byte(head), []byte(sumField), sum(head, body), []byte("\n"), body), nil
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

// decode returns what a file holds. Any error but a newerError means that the file is damaged.
func decode(data []byte) (generation, error) {
	line, body, ok := bytes.Cut(data, []byte("\n"))
	if !ok {
		return generation{}, fmt.Errorf("has no first line (%d bytes)", len(data))
	}
	head, want, ok := bytes.Cut(line, []byte(sumField))
	if !ok {
		return generation{}, errors.New("its first line has no checksum")
	}
	var version, length int
	var number uint64
	if _, err := fmt.Sscanf(string(head), firstLine, &version, &number, &length); err != nil {
		return generation{}, fmt.Errorf("its first line: %w", err)
	}
	if length != len(body) {
		return generation{}, fmt.Errorf("has %d bytes of records, its first line says %d", len(body), length)
	}
	if got := sum(string(head), body); !bytes.Equal(got, want) {
		return generation{}, fmt.Errorf("its SHA-256 is %s, its first line says %q", got, want)
	}
	if version > formatVersion {
		return generation{}, newerError{version}
	}
	g := generation{number: number, records: make(map[mooring.Name]entry)}
	var doc document
	if err := json.Unmarshal(body, &doc); err != nil {
		return generation{}, fmt.Errorf("decode records: %w", err)
	}
	g.meta = doc.meta
	for i, raw := range doc.Records {
		e := entry{bytes: raw}
		if err := json.Unmarshal(raw, &e.record); err != nil {
			return generation{}, fmt.Errorf("decode record %d: %w", i, err)
		}
		name := e.record.Volume.Name
		if _, dup := g.records[name]; dup || name == "" {
			return generation{}, fmt.Errorf("record %d: its name %q is empty or another's", i, name)
		}
		g.records[name] = e
	}
	return g, nil
}
