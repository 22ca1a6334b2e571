package images_test

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/remote"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// dial opens a registry of the test's.
func dial(t *testing.T, r *remotetest.Registry) *remote.Registry {
	t.Helper()
	reg, err := remote.Open(remote.Access{
		Registry: r.Host(), Credentials: remote.Credentials{User: r.Rules.User, Password: remote.Secret(r.Rules.Password)},
		Patience: remote.Patience{Pause: time.Millisecond},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Close)
	return reg
}

func verifyRegistry(t *testing.T, r *remotetest.Registry, m *images.Manifest, only ...string) images.Verdict {
	t.Helper()
	v, err := images.VerifyRegistry(t.Context(), dial(t, r), m, only, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Over HTTP the same is found as on the storage, with the same names, although a HEAD would say that all is well.
func TestARegistryElsewhereIsJudgedAlike(t *testing.T) {
	for name, c := range map[string]struct {
		hurt func(r *remotetest.Registry, shared, other registry.Descriptor)
		want []string
	}{
		"whole":            {func(*remotetest.Registry, registry.Descriptor, registry.Descriptor) {}, nil},
		"blob truncated":   {func(r *remotetest.Registry, d, _ registry.Descriptor) { r.Damage(d.Digest, []byte("sh")) }, []string{"blob-damaged library/app:latest", "blob-damaged team/other:v1"}},
		"blob bit-flipped": {func(r *remotetest.Registry, d, _ registry.Descriptor) { r.Damage(d.Digest, []byte("Shared layer")) }, []string{"blob-damaged library/app:latest", "blob-damaged team/other:v1"}},
		"blob deleted":     {func(r *remotetest.Registry, d, _ registry.Descriptor) { r.Damage(d.Digest, nil) }, []string{"blob-damaged library/app:latest", "blob-damaged team/other:v1"}},
		"layer link lost":  {func(r *remotetest.Registry, d, _ registry.Descriptor) { r.Unlink("team/other", d.Digest) }, []string{"layer-link team/other:v1"}},
		"image's manifest damaged": {
			func(r *remotetest.Registry, _, d registry.Descriptor) { r.Damage(d.Digest, []byte("{}")) }, []string{"image-damaged team/other:v1"},
		},
		"image's manifest deleted": {
			func(r *remotetest.Registry, _, d registry.Descriptor) { r.Damage(d.Digest, nil) }, []string{"tag-link team/other:v1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := remotetest.New(t, remotetest.Rules{Scheme: remotetest.Token, User: "robot", Password: "secret", Harbor: true, Catalogue: true, Referrers: true, Warm: true})
			app := r.Image("library/app", "", []byte("shared layer"), []byte("own"))
			r.Index("library/app", "latest", app)
			other := r.Image("team/other", "v1", []byte("shared layer"))
			r.Refer("library/app", app, []byte("signed"))
			shared := registry.Descriptor{Digest: registry.DigestOf([]byte("shared layer")), Size: 12}
			c.hurt(r, shared, other)
			v := verifyRegistry(t, r, new(images.Manifest))
			if got := said(v); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if v.Tags != 2 || v.Repositories != 2 || v.Images < 3 {
				t.Errorf("got %+v", v)
			}
		})
	}
}

// What the manifest of a storage says holds for the registry in front of it: what was deleted, what is new, and tags that moved.
func TestARegistryElsewhereIsComparedWithTheManifest(t *testing.T) {
	r := remotetest.New(t, remotetest.Rules{})
	one := r.Image("app", "one", []byte("1"))
	two := r.Image("app", "two", []byte("2"))
	m := new(images.Manifest)
	c := images.NewChange().Taken(someTime()).Repository("app").Revision(one.Digest).Revision(two.Digest).Revision(digest(7))
	c.Tag("one", two.Digest, someTime()).Tag("two", one.Digest, someTime()).Tag("gone", one.Digest, someTime()).Repository("lost").Tag("x", one.Digest, someTime())
	apply(t, m, c)
	r.Image("app", "three", []byte("3"))
	v := verifyRegistry(t, r, m)
	if got, want := said(v), []string{"tag-moved app:one", "tag-moved app:two"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := differences(v.Gone), []string{"app:gone", "lost:"}; !slices.Equal(got, want) {
		t.Errorf("gone: got %q, want %q", got, want)
	}
	if got, want := differences(v.New), []string{"app:image", "app:three"}; !slices.Equal(got, want) {
		t.Errorf("new: got %q, want %q", got, want)
	}
	// Of one repository nothing is said about another.
	if v := verifyRegistry(t, r, m, "app"); len(differences(v.Gone)) != 1 {
		t.Errorf("got %q", differences(v.Gone))
	}
}

// A registry that does not answer proves nothing.
func TestARegistryThatDoesNotAnswerIsNotWhole(t *testing.T) {
	r := remotetest.New(t, remotetest.Rules{})
	r.Server.Close()
	reg := dial(t, r)
	if v, err := images.VerifyRegistry(t.Context(), reg, new(images.Manifest), nil, 1, nil); !isUnavailable(err) {
		t.Errorf("got %+v, %v, want one that wraps ErrUnavailable", v, err)
	}
}
