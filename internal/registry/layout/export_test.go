package layout

import "golang.org/x/sys/unix"

// What decides about names, for its tests.
var (
	IsComponent = isComponent
	IsTag       = isTag
)

// EntryNames returns the names in what getdents64(2) returned.
func EntryNames(buf []byte) []string {
	var names []string
	for _, e := range appendEntries(nil, buf) {
		names = append(names, e.name)
	}
	return names
}

// OpenStepwise opens and closes a path below a directory, as it is done where there is no openat2(2).
func OpenStepwise(top, below string, flags int) error {
	d, err := openDir(top)
	if err != nil {
		return err
	}
	defer d.close()
	fd, err := d.openStepwise(below, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
