package image

import (
	"fmt"
	"io"
	"io/fs"
)

// entry is a file of an initramfs.
type entry struct {
	path    string // without a leading slash; its directories come before it
	mode    fs.FileMode
	content []byte
}

// writeArchive writes the entries as a cpio archive of the form that the kernel unpacks (newc).
func writeArchive(w io.Writer, entries []entry) error {
	for i, e := range entries {
		if err := writeEntry(w, i+1, e); err != nil {
			return fmt.Errorf("archive %s: %w", e.path, err)
		}
	}
	return writeEntry(w, 0, entry{path: "TRAILER!!!"})
}

func writeEntry(w io.Writer, inode int, e entry) error {
	mode, links := uint32(e.mode.Perm()), 1
	switch {
	case e.mode.IsDir():
		mode, links = mode|0o040000, 2
	case e.mode.IsRegular() && inode != 0:
		mode |= 0o100000
	}
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		inode, mode, 0, 0, links, 0, len(e.content), 0, 0, 0, 0, len(e.path)+1, 0, e.path)
	if _, err := io.WriteString(w, padded(header)); err != nil {
		return err
	}
	if _, err := w.Write(e.content); err != nil {
		return err
	}
	_, err := io.WriteString(w, padding(len(e.content)))
	return err
}

func padded(s string) string { return s + padding(len(s)) }

// padding fills up to a multiple of four.
func padding(n int) string { return "\x00\x00\x00"[:(4-n%4)%4] }
