package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// signed ends a kernel module that has a signature. Before it is a module_signature (include/linux/module_signature.h), which ends with the length of the
// signature before that, as a big-endian number.
const signed = "~Module signature appended~\n"

// infoSize is what a module_signature takes.
const infoSize = 12

// unsignAll takes the signatures off the kernel modules below dir. The kernel loads an unsigned module, and an emulated processor is spared what takes it longest
// about it: to check the signature.
func unsignAll(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(name, ".ko") {
			return err
		}
		module, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		size, err := unsigned(module)
		if err != nil {
			return fmt.Errorf("take the signature off %s: %w", name, err)
		}
		return os.Truncate(name, int64(size))
	})
}

// unsigned returns how long the module is without its signature.
func unsigned(module []byte) (int, error) {
	rest, ok := bytes.CutSuffix(module, []byte(signed))
	if !ok {
		return len(module), nil
	}
	if len(rest) < infoSize {
		return 0, fmt.Errorf("a module_signature has %d bytes, and there are %d", infoSize, len(rest))
	}
	length := int64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	size := int64(len(rest)-infoSize) - length
	if size < 0 {
		return 0, fmt.Errorf("a signature of %d bytes does not fit into %d", length, len(module))
	}
	return int(size), nil
}
