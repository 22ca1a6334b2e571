package powercut_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/integration/powercut"
	"github.com/mooring-sh/mooring/internal/registry"
)

const (
	layerText, manifestText = "content of a layer", "content of a manifest"

	oldManifest = "content of an older manifest"
)

// Places in the storage of an image a:t, relative to docker/registry/v2.
func blobFile(text string) string {
	return filepath.Join("blobs/sha256", digest(text).Hex()[:2], digest(text).Hex(), "data")
}

func layerLink() string { return "repositories/a/_layers/sha256/" + digest(layerText).Hex() + "/link" }

func revisionLink() string {
	return "repositories/a/_manifests/revisions/sha256/" + digest(manifestText).Hex() + "/link"
}

const tagLink = "repositories/a/_manifests/tags/t/current/link"

// newStorage writes the image, and returns the directory and what is expected in it.
func newStorage(t *testing.T) (string, powercut.Expectation) {
	t.Helper()
	dir := t.TempDir()
	for path, text := range map[string]string{
		blobFile(layerText): layerText, blobFile(manifestText): manifestText,
		layerLink(): string(digest(layerText)), revisionLink(): string(digest(manifestText)), tagLink: string(digest(manifestText)),
	} {
		write(t, dir, path, text)
	}
	p := pushed(manifestText, 3, 4)
	p.Blobs = []registry.Digest{digest(layerText)}
	return dir, powercut.Expect([]powercut.Push{p}, nil, 10)
}

func write(t *testing.T, dir, path, text string) {
	t.Helper()
	file := filepath.Join(dir, "docker/registry/v2", path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestStorageThatHasEverythingHasNoLoss(t *testing.T) {
	t.Parallel()
	dir, expected := newStorage(t)
	if losses := powercut.Check(dir, expected); len(losses) > 0 {
		t.Errorf("losses %v; want none", losses)
	}
}

// The experiment is worth what this finds.
func TestWhateverIsNotThereIsALoss(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("\x00", registry.LinkLen)
	const gone = "(gone)"
	for name, tt := range map[string]struct{ path, text, want string }{
		"layer gone":                {blobFile(layerText), gone, "blob missing"},
		"layer empty":               {blobFile(layerText), "", "blob empty"},
		"layer zeroed":              {blobFile(layerText), "\x00\x00", "blob zeroed"},
		"layer cut short":           {blobFile(layerText), layerText[:5], "blob wrong"},
		"layer's bit flipped":       {blobFile(layerText), "b" + layerText[1:], "blob wrong"},
		"manifest gone":             {blobFile(manifestText), gone, "manifest missing"},
		"manifest empty":            {blobFile(manifestText), "", "manifest empty"},
		"manifest is another":       {blobFile(manifestText), oldManifest, "manifest wrong"},
		"layer link gone":           {layerLink(), gone, "layer link missing"},
		"layer link empty":          {layerLink(), "", "layer link empty"},
		"layer link zeroed":         {layerLink(), zeros, "layer link zeroed"},
		"layer link to another":     {layerLink(), string(digest(manifestText)), "layer link wrong"},
		"revision link gone":        {revisionLink(), gone, "revision link missing"},
		"revision link empty":       {revisionLink(), "", "revision link empty"},
		"revision link cut short":   {revisionLink(), "sha256:", "revision link wrong"},
		"tag gone":                  {tagLink, gone, "tag missing"},
		"tag empty":                 {tagLink, "", "tag empty"},
		"tag zeroed":                {tagLink, zeros, "tag zeroed"},
		"tag is no digest":          {tagLink, "sha256:0", "tag wrong"},
		"tag is an image of before": {tagLink, string(digest(oldManifest)), "tag stale"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, expected := newStorage(t)
			if tt.text == gone {
				if err := os.Remove(filepath.Join(dir, "docker/registry/v2", tt.path)); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, dir, tt.path, tt.text)
			}
			losses := powercut.Check(dir, expected)
			if len(losses) != 1 || losses[0].Class() != tt.want || losses[0].Path != tt.path {
				t.Errorf("losses %v; want %s of %s", losses, tt.want, tt.path)
			}
		})
	}
}
