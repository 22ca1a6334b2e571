package image_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/mooring-sh/mooring/integration/lab/image"
)

// A changed recipe must make a new image, or tests would go on with a guest that nobody can make any more.
func TestKeyTellsRecipesApart(t *testing.T) {
	t.Parallel()
	file := func(name, content string) fstest.MapFS { return fstest.MapFS{name: {Data: []byte(content)}} }
	base := file("recipe/init", "mount")
	recipes := map[string]struct {
		suite    image.Suite
		packages []string
		files    fstest.MapFS
	}{
		"base":            {image.Trixie, []string{"udev", "kmod"}, base},
		"another suite":   {image.Bookworm, []string{"udev", "kmod"}, base},
		"another package": {image.Trixie, []string{"udev", "kmod", "less"}, base},
		"another content": {image.Trixie, []string{"udev", "kmod"}, file("recipe/init", "mounts")},
		"another name":    {image.Trixie, []string{"udev", "kmod"}, file("recipe/exit", "mount")},
		"another file":    {image.Trixie, []string{"udev", "kmod"}, fstest.MapFS{"recipe/init": base["recipe/init"], "recipe/x": {}}},
	}
	seen := make(map[string]string)
	for name, r := range recipes {
		key, err := image.RecipeKey(r.suite, r.packages, r.files)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have the key %s", name, other, key)
		}
		seen[key] = name
	}
}

func TestKeyDoesNotDependOnTheOrderOfPackages(t *testing.T) {
	t.Parallel()
	one, err := image.RecipeKey(image.Trixie, []string{"udev", "kmod"}, fstest.MapFS{})
	if err != nil {
		t.Fatal(err)
	}
	two, err := image.RecipeKey(image.Trixie, []string{"kmod", "udev"}, fstest.MapFS{})
	if err != nil {
		t.Fatal(err)
	}
	if one != two {
		t.Errorf("keys %s and %s; want one", one, two)
	}
}

func TestUnknownSuiteIsRefusedBeforeAnythingIsBuilt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	if _, err := image.Get(t.Context(), image.Options{Suite: "sid", Cache: dir}); err == nil {
		t.Error("an image of sid; want an error")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the cache: %v; want none", err)
	}
}
