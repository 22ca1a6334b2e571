package layout

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-sh/mooring/internal/registry"
)

// batch is how many links are open at a time: the disk is asked for all of them before the first is waited for.
const batch = 8

// wanted is one link that is to be read: its path below a directory, and the digest that it has to say, if there is one.
type wanted struct {
	below string
	name  registry.Digest
}

// linksOf returns what is wanted of a directory that has one directory with a link for each digest.
func linksOf(digests []registry.Digest) []wanted {
	all := make([]wanted, len(digests))
	for i, d := range digests {
		all[i] = wanted{below: path.Join(d.Hex(), linkName), name: d}
	}
	return all
}

// readLinks reads link files below the directory at base. What is wrong with one is in it; the error says that this process is short of something.
func readLinks(d dir, base string, want []wanted) ([]Link, error) {
	links := make([]Link, 0, len(want))
	var fds [batch]int
	for len(want) > 0 {
		n := min(batch, len(want))
		for i, w := range want[:n] {
			l, fd, err := openLink(d, base, w)
			if err != nil {
				n = i // those that are open are read first, and give their descriptors back
				if n == 0 {
					return nil, err
				}
				break
			}
			links, fds[i] = append(links, l), fd
		}
		for i := range n {
			if fds[i] >= 0 {
				links[len(links)-n+i].read(fds[i])
				_ = unix.Close(fds[i])
			}
		}
		want = want[n:]
	}
	return links, nil
}

// readLink reads one link file.
func readLink(d dir, below string, name registry.Digest) (Link, error) {
	links, err := readLinks(d, "", []wanted{{below: below, name: name}})
	if err != nil {
		return Link{}, err
	}
	return links[0], nil
}

// openLink opens a link file and has the kernel fetch its content. The descriptor is -1 if there is nothing to read.
func openLink(d dir, base string, w wanted) (Link, int, error) {
	l := Link{Path: path.Join(base, w.below), Name: w.name, Size: -1}
	fd, err := d.open(w.below, unix.O_RDONLY, 0)
	if isShortage(err) {
		return l, -1, fmt.Errorf("open %s: %w", l.Path, err)
	}
	if err != nil {
		l.Problem = openProblem(err)
		return l, -1, nil
	}
	var st unix.Stat_t
	if l.Problem = statProblem(fd, &st); l.Problem != "" {
		_ = unix.Close(fd)
		return l, -1, nil
	}
	l.Size, l.Changed = st.Size, timeOf(st.Mtim)
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_WILLNEED) // advice: without it the read waits
	return l, fd, nil
}

// read reads an open link's content.
func (l *Link) read(fd int) {
	var buf [registry.LinkLen + 1]byte
	n, err := pread(fd, buf[:], 0)
	if err != nil {
		l.Problem = err.Error()
		return
	}
	l.Target, l.Problem = judgeLink(buf[:n], l.Name)
}

var errNotRegular = errors.New("not a regular file")

func openProblem(err error) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		return LinkMissing
	case errors.Is(err, unix.ELOOP):
		return errNotRegular.Error()
	default:
		return err.Error()
	}
}

func statProblem(fd int, st *unix.Stat_t) string {
	err := again(func() error { return unix.Fstat(fd, st) })
	switch {
	case err != nil:
		return err.Error()
	case !isRegular(st):
		return errNotRegular.Error()
	default:
		return ""
	}
}

// judgeLink says what a link's content is worth; name is empty for a tag's current link.
func judgeLink(content []byte, name registry.Digest) (target registry.Digest, problem string) {
	if len(bytes.Trim(content, "\x00")) == 0 {
		return "", LinkEmpty
	}
	if name != "" && string(content) == string(name) {
		return name, "" // one string serves for both
	}
	d, err := registry.ParseDigest(string(content))
	switch {
	case err != nil:
		return "", LinkInvalid
	case name != "":
		return d, LinkLies
	default:
		return d, ""
	}
}

func timeOf(ts unix.Timespec) time.Time { return time.Unix(ts.Unix()) }
