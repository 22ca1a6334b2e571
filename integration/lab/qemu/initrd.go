package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mooring-sh/mooring/integration/lab/agent"
	"github.com/mooring-sh/mooring/integration/lab/cpio"
)

// PackInitrd writes to out what base has (empty: nothing), followed by an archive with the program as /mooring-agent.
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
	return cpio.Write(f, []cpio.Entry{{Path: agent.Program, Mode: 0o755, Content: content}})
}

func appendTo(w io.Writer, path string) (int64, error) {
	f, err := os.Open(path) //nolint:gosec // named by the caller
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, f)
	return n, errors.Join(err, f.Close())
}
