package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mooring-sh/mooring/integration/lab/agent"
)

// PackInitrd writes to out what base has (empty: nothing), followed by an archive with the program as /mooring-agent. The kernel unpacks one after the other,
// whatever the first is compressed with (Documentation/driver-api/early-userspace/buffer-format.rst).
func PackInitrd(base, program, out string) (err error) {
	f, err := os.Create(out) //nolint:gosec // the lab's own directory
	if err != nil {
		return fmt.Errorf("pack initrd: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("pack initrd: %w", err)
		}
	}()
	var size int64
	if base != "" {
		if size, err = appendTo(f, base); err != nil {
			return err
		}
	}
	if _, err = f.Write(make([]byte, -size&3)); err != nil {
		return err
	}
	content, err := os.ReadFile(program) //nolint:gosec // named by the caller
	if err != nil {
		return err
	}
	archive := appendEntry(nil, "/"+agent.Program, 0o100755, content)
	_, err = f.Write(appendEntry(archive, "TRAILER!!!", 0, nil))
	return err
}

func appendTo(w io.Writer, path string) (int64, error) {
	f, err := os.Open(path) //nolint:gosec // named by the caller
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, f)
	return n, errors.Join(err, f.Close())
}

// appendEntry appends a file to a cpio archive of the format "newc" (cpio(5)), which is as long as it should be: header and content are padded to four bytes.
func appendEntry(archive []byte, name string, mode int, content []byte) []byte {
	b := bytes.NewBuffer(archive)
	_, _ = b.WriteString("070701")
	for _, field := range []int{
		0, mode, 0, 0, 1, 0, len(content), // inode, mode, owner, group, links, time, size
		0, 0, 0, 0, len(name) + 1, 0, // device, special device, length of the name, checksum
	} {
		_, _ = fmt.Fprintf(b, "%08x", field)
	}
	_, _ = b.WriteString(name + "\x00")
	_, _ = b.Write(make([]byte, -b.Len()&3))
	_, _ = b.Write(content)
	_, _ = b.Write(make([]byte, -b.Len()&3))
	return b.Bytes()
}
