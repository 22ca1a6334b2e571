package remote_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/internal/registry/remote"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
)

// quick has no test wait for longer than it must.
func quick() remote.Patience {
	return remote.Patience{Tries: 3, Pause: time.Millisecond, Longest: 2 * time.Millisecond, Told: 10 * time.Second}
}

const (
	robot  = "robot$library+verify"
	secret = "s3cr3t-of-the-robot"
)

// open returns a client of the test's registry, as the account that its rules have.
func open(t *testing.T, reg *remotetest.Registry, change ...func(*remote.Access)) *remote.Registry {
	t.Helper()
	a := remote.Access{Registry: reg.Server.URL, Patience: quick()}
	if reg.Rules.User != "" {
		a.Credentials = remote.Credentials{User: reg.Rules.User, Password: remote.Secret(reg.Rules.Password)}
	}
	for _, c := range change {
		c(&a)
	}
	r, err := remote.Open(a, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func harbor() remotetest.Rules {
	return remotetest.Rules{Harbor: true, Scheme: remotetest.Token, User: robot, Password: secret, Referrers: true, Catalogue: true}
}

// schemes are all ways in which a registry may want to know who asks.
func schemes() map[string]remotetest.Rules {
	return map[string]remotetest.Rules{
		"nobody asks":        {Catalogue: true},
		"basic":              {Scheme: remotetest.Basic, User: "ann", Password: secret, Catalogue: true},
		"token":              {Scheme: remotetest.Token, User: "ann", Password: secret},
		"token for anybody":  {Scheme: remotetest.Token},
		"harbor":             harbor(),
		"harbor for anybody": {Harbor: true, Scheme: remotetest.Token},
	}
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func wantError(t *testing.T, err, sentinel error, texts ...string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Fatalf("got error %v, want one that is %v", err, sentinel)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got error %q, want %q in it", err, text)
		}
	}
}

// Whatever scheme a registry uses, all that verification needs can be read with it.
func TestEverySchemeOfAuthenticationIsFollowed(t *testing.T) {
	for name, rules := range schemes() {
		t.Run(name, func(t *testing.T) {
			reg := remotetest.New(t, rules)
			image := reg.Image("library/db", "1", []byte("layer"))
			r := open(t, reg)
			ctx := t.Context()
			if rules.Catalogue {
				repos, err := r.Repositories(ctx)
				if err != nil || !slices.Equal(repos, []string{"library/db"}) {
					t.Errorf("repositories: got %v, %v", repos, err)
				}
			}
			tags, err := r.Tags(ctx, "library/db")
			if err != nil || !slices.Equal(tags, []string{"1"}) {
				t.Errorf("tags: got %v, %v", tags, err)
			}
			d, err := r.Resolve(ctx, "library/db", "1")
			if err != nil || d.Digest != image.Digest || d.Size != image.Size || d.MediaType != image.MediaType {
				t.Errorf("resolve: got %v, %v, want %v", d, err, image)
			}
			body, err := r.ImageManifest(ctx, "library/db", image.Digest)
			if err != nil || registry.DigestOf(body) != image.Digest {
				t.Errorf("image manifest: got %q, %v", body, err)
			}
			if _, err := r.Referrers(ctx, "library/db", image.Digest); err != nil {
				t.Errorf("referrers: %v", err)
			}
			n, err := r.Hash(ctx, "library/db", registry.Descriptor{Digest: registry.DigestOf([]byte("layer")), Size: 5}, nil)
			if err != nil || n != 5 {
				t.Errorf("blob: got %d, %v", n, err)
			}
		})
	}
}

// Harbor's /v2/ asks for a token, and its catalogue for a password: who takes the scheme of the first answer for all cannot list it.
func TestHarborsCatalogueGetsThePasswordAndItsRepositoriesAToken(t *testing.T) {
	reg := remotetest.New(t, harbor())
	reg.Image("library/db", "1", []byte("layer"))
	r := open(t, reg)
	if _, err := r.Tags(t.Context(), "library/db"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Repositories(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resolve(t.Context(), "library/db", "1"); err != nil {
		t.Fatal(err)
	}
	last := make(map[string]string)
	for _, q := range reg.Requests() {
		last[q.Path], _, _ = strings.Cut(q.Authorization, " ")
	}
	want(t, "catalogue", last["/v2/_catalog"], "Basic")
	want(t, "tags", last["/v2/library/db/tags/list"], "Bearer")
	want(t, "image manifest", last["/v2/library/db/manifests/1"], "Bearer")
}

// A token per repository: one for all of a registry's ten thousand would be asked for anew, and be longer, with each.
func TestATokenIsForOneRepository(t *testing.T) {
	reg := remotetest.New(t, harbor())
	r := open(t, reg)
	for _, repo := range []string{"library/a", "library/b", "library/c"} {
		reg.Image(repo, "1")
		for range 3 {
			if _, err := r.Tags(t.Context(), repo); err != nil {
				t.Fatal(err)
			}
		}
	}
	var scopes []string
	for _, q := range reg.Requests() {
		if q.Path == "/service/token" {
			scopes = append(scopes, q.Query)
		}
	}
	if len(scopes) != 3 || strings.Count(scopes[2], "scope=") != 1 || !strings.Contains(scopes[0], "account=robot%24library%2Bverify") {
		t.Errorf("got tokens for %v, want three, each for one repository", scopes)
	}
}

// Pages are named by relative URLs, and a page may be smaller than it was asked to be.
func TestPagesAreFollowedToTheEnd(t *testing.T) {
	rules := harbor()
	rules.PageSize = 2
	reg := remotetest.New(t, rules)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		reg.Image("library/"+name, "1")
		reg.Image("library/tagged", name)
	}
	r := open(t, reg)
	repos, err := r.Repositories(t.Context())
	if err != nil || len(repos) != 6 {
		t.Errorf("got repositories %v, %v, want 6", repos, err)
	}
	tags, err := r.Tags(t.Context(), "library/tagged")
	if err != nil || strings.Join(tags, "") != "abcde" {
		t.Errorf("got tags %v, %v, want a to e", tags, err)
	}
}

// A registry whose pages lead in a circle must not hold anybody for ever.
func TestPagesInACircleAreAnError(t *testing.T) {
	for path, body := range map[string]string{
		"/v2/_catalog": `{"repositories":["a"]}`, "/v2/library/db/tags/list": `{"name":"library/db","tags":["a"]}`,
	} {
		reg := remotetest.New(t, remotetest.Rules{Meddle: func(q *http.Request, _ int) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Link", `<`+path+`?last=a&n=1>; rel="next"`)
				remotetest.Text("application/json", body).ServeHTTP(w, q)
			})
		}})
		r := open(t, reg)
		_, err := r.Repositories(t.Context())
		if strings.HasSuffix(path, "list") {
			_, err = r.Tags(t.Context(), "library/db")
		}
		wantError(t, err, mooring.ErrInvalid, "circle")
	}
}

// Who is refused must learn which right on what is missing.
func TestARefusalNamesTheRightThatIsMissing(t *testing.T) {
	rules := harbor()
	rules.Projects, rules.Catalogue = []string{"other"}, false
	reg := remotetest.New(t, rules)
	image := reg.Image("library/db", "1")
	r := open(t, reg)
	ctx := t.Context()

	_, err := r.Repositories(ctx)
	wantError(t, err, mooring.ErrInvalid, robot, "catalogue", "system robot account", "PROJECT/*")
	_, err = r.Tags(ctx, "library/db")
	wantError(t, err, mooring.ErrInvalid, robot, "401", "UNAUTHORIZED", "pull from library/db", `"Pull Repository" on the project library`)
	_, err = r.Resolve(ctx, "library/db", "1")
	wantError(t, err, mooring.ErrInvalid, "library/db:1", "on the project library")
	_, err = r.ImageManifest(ctx, "library/db", image.Digest)
	wantError(t, err, mooring.ErrInvalid, "on the project library")
	_, err = r.Referrers(ctx, "library/db", image.Digest)
	wantError(t, err, mooring.ErrInvalid, "on the project library")
	_, err = r.Hash(ctx, "library/db", image, nil)
	wantError(t, err, mooring.ErrInvalid, "on the project library")
	_, err = r.Expand(ctx, []string{"library/*"})
	wantError(t, err, mooring.ErrInvalid, `"List Repository" on the project library`)
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestAWrongPasswordIsRefused(t *testing.T) {
	for _, scheme := range []remotetest.Scheme{remotetest.Basic, remotetest.Token} {
		reg := remotetest.New(t, remotetest.Rules{Scheme: scheme, User: "ann", Password: "right"})
		reg.Image("library/db", "1")
		r := open(t, reg, func(a *remote.Access) { a.Password = "wrong" })
		_, err := r.Tags(t.Context(), "library/db")
		wantError(t, err, mooring.ErrInvalid, "refuses ann", "pull from library/db")
		r = open(t, reg, func(a *remote.Access) { a.Credentials = remote.Credentials{} })
		_, err = r.Tags(t.Context(), "library/db")
		wantError(t, err, mooring.ErrInvalid, "refuses whoever gives no account")
	}
}

// A robot account of one project may not list the catalogue, and can verify its project all the same.
func TestAProjectOfHarborsIsListedWithARobotAccountOfThatProject(t *testing.T) {
	rules := harbor()
	rules.Projects, rules.Catalogue = []string{"library"}, false
	reg := remotetest.New(t, rules)
	for i := range 250 {
		reg.Image("library/"+strings.Repeat("x", i%7+1)+string(rune('a'+i%26))+strings.Repeat("y", i/26), "1")
	}
	reg.Image("other/db", "1")
	r := open(t, reg)
	repos, err := r.Expand(t.Context(), []string{"library/*"})
	if err != nil || len(repos) != 250 || slices.Contains(repos, "other/db") {
		t.Errorf("got %d repositories, %v, want the project's 250", len(repos), err)
	}
}

func TestExpandNamesRepositories(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	for _, name := range []string{"library/a", "library/b", "library-x/c", "d"} {
		reg.Image(name, "1")
	}
	r := open(t, reg)
	for _, c := range []struct{ only, want string }{
		{"", "d library-x/c library/a library/b"},
		{"library/*", "library/a library/b"},
		{"d library/*", "d library/a library/b"},
		{"library/a library/*", "library/a library/b"},
		{"absent", "absent"},
	} {
		got, err := r.Expand(t.Context(), strings.Fields(c.only))
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q: got %v, %v, want %s", c.only, got, err, c.want)
		}
	}
	for _, bad := range []string{"../etc", "A", "a//b", "a?b", "*", "a/../b", "a/b:1"} {
		_, err := r.Expand(t.Context(), []string{bad})
		wantError(t, err, mooring.ErrInvalid)
		_, err = r.Tags(t.Context(), bad)
		wantError(t, err, mooring.ErrInvalid)
	}
}

// What answers may be anything: a portal, a proxy's error page.
func TestWhatIsNoRegistryIsSaidToBeNone(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{Meddle: func(*http.Request, int) http.Handler { return remotetest.Text("text/html", "<h1>Welcome</h1>") }})
	r := open(t, reg)
	_, err := r.Repositories(t.Context())
	wantError(t, err, mooring.ErrInvalid, "not as a registry does")
	_, err = r.Tags(t.Context(), "a")
	wantError(t, err, mooring.ErrInvalid, "not as a registry does")
}

// A log is read by more people than a password is meant for.
func TestNoSecretIsLoggedOrPrinted(t *testing.T) {
	rules := harbor()
	rules.Elsewhere = true
	reg := remotetest.New(t, rules)
	image := reg.Image("library/db", "1", []byte("layer"))
	var log bytes.Buffer
	r, err := remote.Open(remote.Access{
		Registry: reg.Server.URL, Credentials: remote.Credentials{User: robot, Password: secret}, Patience: quick(),
	}, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Walk(t.Context(), remote.Order{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ImageManifest(t.Context(), "library/db", image.Digest); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "/v2/library/db/blobs/") {
		t.Errorf("the log lacks the requests:\n%s", &log)
	}
	for _, bad := range []string{secret, "signature", "s3cr3t", "Bearer", "Basic"} {
		if strings.Contains(log.String(), bad) {
			t.Errorf("the log shows %q:\n%s", bad, &log)
		}
	}
}

// Verification must not count as a pull: Harbor's retention rules keep what was pulled lately.
func TestHarborCountsNoPullAndOthersGetMooringsName(t *testing.T) {
	for name, rules := range schemes() {
		t.Run(name, func(t *testing.T) {
			reg := remotetest.New(t, rules)
			image := reg.Image("library/db", "1", []byte("layer"))
			for _, counted := range []bool{false, true} {
				r := open(t, reg, func(a *remote.Access) { a.Counted, a.Agent = counted, "mooring/1.2.3" })
				seen := len(reg.Requests())
				if _, err := r.ImageManifest(t.Context(), "library/db", image.Digest); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Walk(t.Context(), remote.Order{Only: []string{"library/db"}}); err != nil {
					t.Fatal(err)
				}
				for _, q := range reg.Requests()[seen:] {
					agent := "mooring/1.2.3"
					if rules.Harbor && !counted && q.Method == http.MethodGet && strings.Contains(q.Path, "/manifests/") {
						agent = "harbor-registry-client"
					}
					if q.UserAgent != agent {
						t.Errorf("%s %s: got User-Agent %s, want %s", q.Method, q.Path, q.UserAgent, agent)
					}
				}
			}
		})
	}
}

func TestResolveAsksByHead(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	reg.Image("a", "1")
	if _, err := open(t, reg).Resolve(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	for _, q := range reg.Requests() {
		want(t, q.Path, q.Method, http.MethodHead)
	}
	_, err := open(t, reg).Resolve(t.Context(), "a", "2")
	wantError(t, err, mooring.ErrNotFound, "a:2")
	_, err = open(t, reg).Resolve(t.Context(), "a", "../2")
	wantError(t, err, mooring.ErrInvalid)
}

// Not every registry gives a digest with a HEAD: then the content is hashed.
func TestResolveHashesWhatHasNoDigest(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	image := reg.Image("a", "1")
	reg.Rules.Meddle = func(q *http.Request, _ int) http.Handler {
		if q.Method != http.MethodHead {
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})
	}
	d, err := open(t, reg).Resolve(t.Context(), "a", "1")
	if err != nil || d.Digest != image.Digest || d.Size != image.Size {
		t.Errorf("got %v, %v, want %v", d, err, image)
	}
}

// A call that is cancelled returns, even while a token service holds it: tokens are asked for without a context.
func TestACancelledCallReturnsThoughTheTokenServiceHangs(t *testing.T) {
	asked := make(chan struct{})
	reg := remotetest.New(t, harbor())
	reg.Image("library/db", "1")
	reg.Rules.Meddle = func(q *http.Request, n int) http.Handler {
		if q.URL.Path != "/service/token" {
			return nil
		}
		return http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
			if n == 0 {
				close(asked)
			}
			<-q.Context().Done()
		})
	}
	r := open(t, reg)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(errors.New("enough"))
	}()
	_, err := r.Tags(ctx, "library/db")
	if err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("got %v, want the cancellation's cause", err)
	}
}
