package layout

import "strings"

// The limits of names, by the OCI distribution specification and distribution's own.
const (
	maxRepositoryName = 255
	maxTagName        = 128
)

// isComponent reports whether a registry accepts s between the slashes of a repository's name: [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*.
func isComponent(s string) bool {
	for {
		word := strings.IndexFunc(s, isSpecial)
		if word < 0 {
			return s != ""
		}
		rest := strings.TrimLeftFunc(s[word:], isSpecial)
		if word == 0 || !isSeparator(s[word:len(s)-len(rest)]) {
			return false
		}
		s = rest
	}
}

func isSpecial(r rune) bool { return r > 'z' || !isAlphanumeric(byte(r)) }

func isAlphanumeric(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func isSeparator(s string) bool {
	return s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}

// isTag reports whether a registry accepts s as a tag: [\w][\w.-]{0,127}.
func isTag(s string) bool {
	if s == "" || len(s) > maxTagName || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// isLostAndFound reports whether fsck put it there.
func isLostAndFound(name string) bool { return name == "lost+found" }

// isRepository reports whether a registry accepts s as a repository's name.
func isRepository(s string) bool {
	if len(s) > maxRepositoryName {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if !isComponent(part) {
			return false
		}
	}
	return true
}
