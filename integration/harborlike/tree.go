package harborlike

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// libraries is where Debian has them.
const libraries = "usr/lib/x86_64-linux-gnu/"

// tree is a filesystem's files and links by their paths, which do not begin with a slash. Directories that are not named are made.
type tree map[string]member

// member is a directory (by its mode), a symbolic link (link is not empty) or a file.
type member struct {
	mode    fs.FileMode
	uid     int // and the group of the same number
	link    string
	content []byte
}

func (t tree) names() []string { return slices.Sorted(maps.Keys(t)) }

// read adds the files of an archive. Since Debian 12 /bin, /lib and so on are links into /usr, wherever a package has its files. What only people read is left out.
func (t tree) read(r *tar.Reader) error {
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := merged(path.Clean(strings.TrimPrefix(h.Name, "./")))
		switch {
		case strings.HasPrefix(name, "usr/share/doc/"), strings.HasPrefix(name, "usr/share/man/"), strings.HasPrefix(name, "usr/share/locale/"):
		case h.Typeflag == tar.TypeReg:
			content, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			t[name] = member{mode: fs.FileMode(h.Mode) & fs.ModePerm, content: content} //nolint:gosec // permission bits
		case h.Typeflag == tar.TypeSymlink:
			t[name] = member{mode: 0o777, link: h.Linkname}
		case h.Typeflag == tar.TypeLink:
			t[name] = t[merged(path.Clean(strings.TrimPrefix(h.Linkname, "./")))]
		}
	}
}

// merged returns the path below usr.
func merged(name string) string {
	if first, _, _ := strings.Cut(name, "/"); slices.Contains([]string{"bin", "sbin", "lib", "lib64"}, first) {
		return "usr/" + name
	}
	return name
}

// pick returns what the patterns name, with the libraries that it needs and what its links lead to. A pattern is one of [path.Match], or a directory with a
// slash at its end, which stands for all that is in it. Each must name something.
func (t tree) pick(patterns []string) (tree, error) {
	picked := make(tree)
	var errs []error
	for _, pattern := range patterns {
		names := t.match(pattern)
		if len(names) == 0 {
			errs = append(errs, fmt.Errorf("no package has %s", pattern))
		}
		for _, name := range names {
			errs = append(errs, t.follow(name, picked))
		}
	}
	return picked, errors.Join(errs...)
}

func (t tree) match(pattern string) []string {
	var names []string
	for _, name := range t.names() {
		matches, _ := path.Match(pattern, name) // a bad pattern matches nothing, which is an error already
		if matches || strings.HasSuffix(pattern, "/") && strings.HasPrefix(name, pattern) {
			names = append(names, name)
		}
	}
	return names
}

// follow adds the member and all that it cannot do without.
func (t tree) follow(name string, into tree) error {
	if _, done := into[name]; done {
		return nil
	}
	m, ok := t[name]
	if !ok {
		return fmt.Errorf("no package has %s", name)
	}
	into[name] = m
	if m.link != "" {
		target := path.Join(path.Dir(name), m.link)
		if path.IsAbs(m.link) {
			target = m.link[1:]
		}
		return t.follow(merged(target), into)
	}
	f, err := elf.NewFile(bytes.NewReader(m.content))
	if err != nil {
		return nil //nolint:nilerr // no program and no library: it needs nothing
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("read what %s needs: %w", name, err)
	}
	if s := f.Section(".interp"); s != nil {
		interpreter, err := s.Data()
		if err != nil {
			return fmt.Errorf("read what %s needs: %w", name, err)
		}
		if err := t.follow(merged(strings.Trim(string(interpreter), "/\x00")), into); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, library := range needed {
		file := libraries + library
		if strings.HasPrefix(library, "ld-linux") {
			file = "usr/lib64/" + library
		}
		if err := t.follow(file, into); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
