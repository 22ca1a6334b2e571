package mooring

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Size is a capacity in bytes.
type Size int64

// Binary multiples of a byte, as vSphere counts capacities.
const (
	MB Size = 1 << 20
	GB Size = 1 << 30
	TB Size = 1 << 40
)

// The sizes that a volume may have: a VMDK may have 62 TB, and mkfs.xfs wants 300 MB.
const (
	MinSize     = 20 * MB
	MinXFSSize  = 300 * MB
	MaxSize     = 62 * TB
	DefaultSize = 10 * GB
)

var sizeForm = regexp.MustCompile(`^([0-9]+)(mb|gb|tb)$`)

// ParseSize returns the capacity that s spells: a whole number and mb, gb or tb in any case ("10gb"), within [MinSize] and [MaxSize].
// The error wraps [ErrInvalid] and says what is allowed.
func ParseSize(s string) (Size, error) {
	m := sizeForm.FindStringSubmatch(strings.ToLower(s))
	if m == nil {
		return 0, fmt.Errorf("size %q: want a whole number followed by mb, gb or tb, such as 10gb: %w", s, ErrInvalid)
	}
	unit := map[string]Size{"mb": MB, "gb": GB, "tb": TB}[m[2]]
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || Size(n) > MaxSize/unit || Size(n)*unit < MinSize {
		return 0, fmt.Errorf("size %q: allowed are %s to %s: %w", s, MinSize, MaxSize, ErrInvalid)
	}
	return Size(n) * unit, nil
}

// String returns the size in the largest unit that divides it, as [ParseSize] reads it; what no megabyte divides is given in bytes ("1000b").
func (s Size) String() string {
	for _, u := range [...]struct {
		size Size
		name string
	}{{TB, "tb"}, {GB, "gb"}, {MB, "mb"}} {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "b"
}
