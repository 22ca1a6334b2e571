package mooring

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Name is a volume's name, as Docker gives it. Use [ParseName] for a name that comes from outside.
type Name string

const maxNameLength = 100 // characters, as the ancestor allowed

// deltaSuffix matches names that vSphere's snapshot files would collide with (web-000001.vmdk), and those of extents.
var deltaSuffix = regexp.MustCompile(`-([0-9]{6}|flat|delta|ctk|digest|sesparse|rdm|rdmp)$`)

// ParseName returns s as a Name if it may name a volume: 2 to 100 characters (dockerd takes a single character for an
// anonymous volume), none of them a slash, a quotation mark or a control character, no @, no space or dot at the ends, and no ending that vSphere
// uses for the files of a disk. The error wraps [ErrInvalid] and says what is allowed.
func ParseName(s string) (Name, error) {
	bad := func(why string) (Name, error) {
		return "", fmt.Errorf("volume name %q: %s: %w", s, why, ErrInvalid)
	}
	switch n := utf8.RuneCountInString(s); {
	case s == "":
		return bad("is empty")
	case n < 2 || n > maxNameLength:
		return bad(fmt.Sprintf("has %d characters, allowed are 2 to %d", n, maxNameLength))
	case !utf8.ValidString(s):
		return bad("is not valid UTF-8")
	case len(s) > 240:
		return bad(fmt.Sprintf("has %d bytes, a file name on a datastore allows 240", len(s)))
	case strings.ContainsAny(s, `/\"`):
		return bad(`must not contain /, \ or "`)
	case strings.Contains(s, "@"):
		return bad("must not contain @: every volume lies on the configured datastore")
	case strings.IndexFunc(s, unicode.IsControl) >= 0:
		return bad("must not contain control characters")
	case strings.TrimSpace(s) != s || strings.Trim(s, ".") != s:
		return bad("must not begin or end with a space or a dot")
	case deltaSuffix.MatchString(s):
		return bad("must not end in " + deltaSuffix.FindString(s) + ", which vSphere uses for a disk's own files")
	}
	return Name(s), nil
}
