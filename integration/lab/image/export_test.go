package image

import (
	"context"
	"io"
	"io/fs"
)

// RecipeKey returns the key of a recipe of the suite with other packages and files than the real one.
func RecipeKey(s Suite, packages []string, files fs.FS) (string, error) {
	r := recipe{suite: s, packages: packages, files: files}
	return r.key()
}

// Unsigned returns how long a kernel module is without its signature.
func Unsigned(module []byte) (int, error) { return unsigned(module) }

// Apart runs a command as a build does.
func Apart(ctx context.Context, argv ...string) error {
	return builder{talk: newTalk(io.Discard, "")}.apart(ctx, argv...)
}

// Check says what a build would lack if commands were in that directory only.
func Check(dir string) error { return check(dir) }
