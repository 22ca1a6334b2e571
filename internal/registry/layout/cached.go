package layout

import (
	"os"

	"golang.org/x/sys/unix"
)

// noReadahead keeps the kernel from reading further than it is asked: only what a read brings in is known, and can be dropped again.
func (f *source) noReadahead() { _ = unix.Fadvise(f.fd, 0, 0, unix.FADV_RANDOM) }

// readCached reads through the page cache, and drops the pages again that were not in it before.
func (f *source) readCached(buf []byte, from int64) (int, error) {
	absent := f.absent(from, min(int64(len(buf)), f.size-from))
	n, err := pread(f.fd, buf, from)
	for _, r := range absent {
		_ = unix.Fadvise(f.fd, r.from, r.length, unix.FADV_DONTNEED)
	}
	return n, err
}

// span is a range of a file, in bytes.
type span struct {
	from, length int64
}

// absent returns which pages of a range that starts at one are not in the page cache. The kernel tells only those who own the file, could write to it, or are root; to
// anybody else it says that all are there, so that what others cached is never dropped.
func (f *source) absent(from, length int64) []span {
	m, err := unix.Mmap(f.fd, from, int(length), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Munmap(m) }()
	page := int64(os.Getpagesize())
	resident := make([]byte, (length+page-1)/page)
	if err := mincore(m, resident); err != nil {
		return nil
	}
	var all []span
	for i, r := range resident {
		at := from + int64(i)*page
		switch last := len(all) - 1; {
		case r&1 != 0:
		case last >= 0 && all[last].from+all[last].length == at:
			all[last].length += page
		default:
			all = append(all, span{from: at, length: page})
		}
	}
	return all
}
