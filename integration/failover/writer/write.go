package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/integration/failover/record"
)

// files are the open files of a writer. What each is for, record says.
type files struct {
	dir         string
	log, blocks *os.File
}

func open(dir string) (*files, error) {
	f := &files{dir: dir}
	var err error
	if f.log, err = os.OpenFile(filepath.Join(dir, record.LogFile), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	if f.blocks, err = os.OpenFile(filepath.Join(dir, record.BlocksFile), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	return f, errors.Join(f.blocks.Truncate(record.Slots*record.Size), f.blocks.Sync(), syncDir(dir))
}

func (f *files) close() error { return errors.Join(f.log.Close(), f.blocks.Close()) }

// write appends records from where the log ends.
func write(ctx context.Context, dir, stream string, interval time.Duration) error {
	out := talk(stream)
	defer out.close()
	f, err := open(dir)
	if err != nil {
		out.say(ctx, "bad "+err.Error())
		return err
	}
	last, err := f.end()
	if err != nil {
		out.say(ctx, "bad "+err.Error())
		return errors.Join(err, f.close())
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	life := record.Life(binary.BigEndian.Uint64(b[:]))
	out.say(ctx, up())
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for seq := last + 1; ctx.Err() == nil; seq++ {
		e, err := f.put(seq, life)
		if err != nil {
			out.say(ctx, "bad "+err.Error())
			return errors.Join(err, f.close())
		}
		out.say(ctx, fmt.Sprintf("ack %d %08x %s", e.Seq, e.Sum, life))
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return f.close()
}

// end reads the log and cuts off what a crash has left after the last good record.
func (f *files) end() (uint64, error) {
	log, err := record.Read(f.log)
	if err != nil {
		return 0, err
	}
	if len(log.Bad) > 0 {
		return 0, fmt.Errorf("record %d: %s: %w", log.Bad[0].Seq, log.Bad[0].Why, errBad)
	}
	size := int64(len(log.Entries)) * record.Size
	return log.Last(), errors.Join(f.log.Truncate(size), f.log.Sync())
}

// put writes one record everywhere it belongs, and returns when all of it is on the disk.
func (f *files) put(seq uint64, life record.Life) (record.Entry, error) {
	b, e := record.Encode(seq, life)
	_, err := f.log.WriteAt(b, int64(seq-1)*record.Size) //nolint:gosec // no log has so many records
	if err = errors.Join(err, f.log.Sync()); err != nil {
		return e, err
	}
	if slot, ok := record.Slot(seq); ok {
		_, err := f.blocks.WriteAt(b, int64(slot)*record.Size)
		if err = errors.Join(err, f.blocks.Sync()); err != nil {
			return e, err
		}
	}
	if record.Marked(seq) {
		return e, f.mark(b)
	}
	return e, nil
}

// mark replaces the mark, as a program that cares replaces a file.
func (f *files) mark(b []byte) error {
	name := filepath.Join(f.dir, record.MarkFile)
	tmp, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(name+".new", name), syncDir(f.dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// dump prints one line for each record: "dir DIR" first, then "log SEQ SUM LIFE", "block SLOT SEQ SUM", "mark SEQ SUM", "bad SEQ WHY", and "end LAST whole|torn" at last,
// without which a dump was cut.
func dump(dir string, w io.Writer) error {
	f, err := os.Open(filepath.Join(dir, record.LogFile))
	if err != nil {
		return err
	}
	log, err := record.Read(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	var out errWriter
	out.w = w
	out.printf("dir %s\n", dir)
	for _, e := range log.Entries {
		out.printf("log %d %08x %s\n", e.Seq, e.Sum, e.Life)
	}
	for _, b := range log.Bad {
		out.printf("bad %d %s\n", b.Seq, b.Why)
	}
	blocks, err := os.ReadFile(filepath.Join(dir, record.BlocksFile))
	if err != nil {
		return err
	}
	for slot := range len(blocks) / record.Size {
		if e, err := record.Decode(blocks[slot*record.Size : (slot+1)*record.Size]); err == nil {
			out.printf("block %d %d %08x\n", slot, e.Seq, e.Sum)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, record.MarkFile)); err == nil {
		if e, err := record.Decode(b); err == nil {
			out.printf("mark %d %08x\n", e.Seq, e.Sum)
		}
	}
	state := "whole"
	if log.Torn {
		state = "torn"
	}
	out.printf("end %d %s\n", log.Last(), state)
	return out.err
}

// errWriter remembers the first error.
type errWriter struct {
	w   io.Writer
	err error
}

func (w *errWriter) printf(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.w, format, args...)
	}
}

// line tells the outside what a writer has done. An agent that is not there costs lines, and never a record.
type line struct {
	stream string
	conn   net.Conn
}

func talk(stream string) *line { return &line{stream: stream} }

const sayLimit = 5 * time.Second

func (l *line) say(ctx context.Context, text string) {
	for range 2 { // an agent that was started anew breaks the connection once
		if l.conn == nil {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", linesSocket)
			if err != nil {
				return
			}
			l.conn = conn
		}
		_ = l.conn.SetWriteDeadline(time.Now().Add(sayLimit)) // a connection that takes none has no deadline
		if _, err := fmt.Fprintf(l.conn, "%s %s\n", l.stream, text); err == nil {
			return
		}
		l.close()
	}
}

// up says that a writer has started, and how long the guest's kernel has run.
func up() string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return "bad " + err.Error()
	}
	return "up " + time.Duration(t.Nano()).String()
}

func (l *line) close() {
	if l.conn != nil {
		_ = l.conn.Close() // nothing is kept in it
		l.conn = nil
	}
}
