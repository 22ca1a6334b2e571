// Package cpio writes the archives that the kernel unpacks as its first filesystem (cpio(5), "newc"). It promises that another may follow: the kernel
// unpacks one after the other, whatever the first is compressed with (Documentation/driver-api/early-userspace/buffer-format.rst).
package cpio

import (
	"fmt"
	"io"
	"io/fs"
)

// Entry is a file or a directory.
type Entry struct {
	Path    string // without a leading slash; its directories come before it
	Mode    fs.FileMode
	Content []byte
}

// Write writes an archive, whose length is a multiple of four.
func Write(w io.Writer, entries []Entry) error {
	for i, e := range entries {
		if err := writeEntry(w, i+1, e); err != nil {
			return fmt.Errorf("archive %s: %w", e.Path, err)
		}
	}
	return writeEntry(w, 0, Entry{Path: "TRAILER!!!"})
}

func writeEntry(w io.Writer, inode int, e Entry) error {
	mode, links := uint32(e.Mode.Perm()), 1
	switch {
	case e.Mode.IsDir():
		mode, links = mode|0o040000, 2
	case e.Mode.IsRegular() && inode != 0:
		mode |= 0o100000
	}
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		inode, mode, 0, 0, links, 0, len(e.Content), 0, 0, 0, 0, len(e.Path)+1, 0, e.Path)
	if _, err := io.WriteString(w, padded(header)); err != nil {
		return err
	}
	if _, err := w.Write(e.Content); err != nil {
		return err
	}
	_, err := io.WriteString(w, padding(len(e.Content)))
	return err
}

func padded(s string) string { return s + padding(len(s)) }

// padding fills up to a multiple of four.
func padding(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }
