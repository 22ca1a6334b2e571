// Package record is the form in which the failover suite's writers keep what they have promised: numbered, checksummed records of one sector each, so
// that a record is on the disk or it is not.
//
// It promises that a log which lost, changed or doubled a record cannot be read as one that did not: every record says its number and which life of
// the writer wrote it, and the checksum covers both. It does no I/O but for the reader it is given.
package record

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
)

// Size is a record's length in bytes: one sector, which a disk writes whole or not at all.
const Size = 512

const (
	magic     = "MOORREC1"
	lifeAt    = len(magic)
	seqAt     = lifeAt + 8
	payloadAt = seqAt + 8
	sumAt     = Size - 4
)

// Life tells one run of a writer from every other.
type Life uint64

// String returns the life as lines of the writers have it.
func (l Life) String() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(l))
	return hex.EncodeToString(b[:])
}

// Entry is what a record says.
type Entry struct {
	Seq  uint64 // from 1
	Life Life
	Sum  uint32 // over all of the record before it
}

// Encode returns the record of that number. Its payload follows from the number and the life, and looks random.
func Encode(seq uint64, life Life) ([]byte, Entry) {
	b := make([]byte, Size)
	copy(b, magic)
	binary.LittleEndian.PutUint64(b[lifeAt:], uint64(life))
	binary.LittleEndian.PutUint64(b[seqAt:], seq)
	noise := rand.New(rand.NewPCG(seq, uint64(life))) //nolint:gosec // bytes to recognise, no secret
	for at := payloadAt; at < sumAt; at += 4 {
		binary.LittleEndian.PutUint32(b[at:], noise.Uint32())
	}
	sum := checksum(b)
	binary.LittleEndian.PutUint32(b[sumAt:], sum)
	return b, Entry{Seq: seq, Life: life, Sum: sum}
}

// Decode reads one record.
func Decode(b []byte) (Entry, error) {
	if len(b) != Size {
		return Entry{}, fmt.Errorf("%d bytes instead of %d", len(b), Size)
	}
	if string(b[:len(magic)]) != magic {
		return Entry{}, errors.New("no record begins here")
	}
	e := Entry{
		Seq:  binary.LittleEndian.Uint64(b[seqAt:]),
		Life: Life(binary.LittleEndian.Uint64(b[lifeAt:])),
		Sum:  binary.LittleEndian.Uint32(b[sumAt:]),
	}
	if got := checksum(b); got != e.Sum {
		return Entry{}, fmt.Errorf("record %d has the checksum %08x, and says %08x", e.Seq, got, e.Sum)
	}
	return e, nil
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b[:sumAt], crc32.MakeTable(crc32.Castagnoli))
}

// Log is what a log was found to hold.
type Log struct {
	Entries []Entry // the good ones, in their order
	Bad     []Bad   // places that hold no good record although one comes after them
	Torn    bool    // what follows the last good record is no record: a write that a crash has cut
}

// Bad is a place in a log that should hold a record and does not.
type Bad struct {
	Seq uint64 // that should be there
	Why string
}

// Last returns the number of the last good record; 0: there is none.
func (l Log) Last() uint64 {
	if len(l.Entries) == 0 {
		return 0
	}
	return l.Entries[len(l.Entries)-1].Seq
}

// Read reads a log from its beginning to its end. The error is the reader's; what is wrong with the log is in the log.
func Read(r io.Reader) (Log, error) {
	var log Log
	var doubt []Bad // counts only if a good record follows
	b := make([]byte, Size)
	for seq := uint64(1); ; seq++ {
		n, err := io.ReadFull(r, b)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return log, fmt.Errorf("read record %d: %w", seq, err)
		}
		e, wrong := Decode(b[:n])
		if wrong == nil && e.Seq != seq {
			wrong = fmt.Errorf("record %d lies where %d belongs", e.Seq, seq)
		}
		if wrong != nil {
			doubt = append(doubt, Bad{Seq: seq, Why: wrong.Error()})
			continue
		}
		log.Bad = append(log.Bad, doubt...)
		doubt = nil
		log.Entries = append(log.Entries, e)
	}
	log.Torn = len(doubt) > 0
	return log, nil
}
