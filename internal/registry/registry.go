// Package registry has the nouns of the OCI distribution specification that verification needs: digests, descriptors, and manifests as far as they name
// other content. It is pure: how a registry's storage is laid out is known to internal/registry/layout, how one is asked over HTTP to internal/registry/remote.
//
// Sources: the OCI image and distribution specifications 1.1, and Docker's image manifest 2.2.
package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/mooring-sh/mooring"
)

// Digest names content by its SHA-256: "sha256:" and 64 hexadecimal digits in lower case. A registry of distribution's accepts sha512 as well, which no
// common client pushes; it is refused here by name.
type Digest string

const (
	algorithm = "sha256:"
	// HexLen is the number of a digest's hexadecimal digits.
	HexLen = 2 * sha256.Size
	// LinkLen is the length of a digest's text in bytes, and so of a link in a registry's storage.
	LinkLen = len(algorithm) + HexLen
)

// ParseDigest returns the digest that the text is; the error wraps [mooring.ErrInvalid].
func ParseDigest(text string) (Digest, error) {
	digits, ok := strings.CutPrefix(text, algorithm)
	if !ok || !isHex(digits) {
		return "", fmt.Errorf("digest %q: want sha256: and %d hexadecimal digits in lower case: %w", clip(text), HexLen, mooring.ErrInvalid)
	}
	return Digest(text), nil
}

// HexDigest returns the digest with these digits, as a registry's storage has them in directory names; the error wraps [mooring.ErrInvalid].
func HexDigest(digits string) (Digest, error) { return ParseDigest(algorithm + digits) }

// DigestOf returns the digest of content.
func DigestOf(content []byte) Digest { return SumDigest(sha256.Sum256(content)) }

// SumDigest returns the digest for a sum.
func SumDigest(sum [sha256.Size]byte) Digest { return Digest(algorithm + hex.EncodeToString(sum[:])) }

// Hex returns the digits.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), algorithm) }

// Short returns the algorithm and the first twelve digits, for tables.
func (d Digest) Short() string { return string(d[:min(len(d), len(algorithm)+12)]) }

func isHex(s string) bool {
	if len(s) != HexLen {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// clip shortens what came from a damaged file before it is shown.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
