package remote_test

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/remote"
	"github.com/mooring-sh/mooring/internal/registry/remote/remotetest"
)

// A registry that is being restarted, or is too busy, is no reason to give up.
func TestWhatPassesIsWaitedOut(t *testing.T) {
	for name, trouble := range map[string]http.Handler{
		"429":              remotetest.Status(http.StatusTooManyRequests, ""),
		"429 with a time":  remotetest.Status(http.StatusTooManyRequests, "0"),
		"500":              remotetest.Status(http.StatusInternalServerError, ""),
		"502":              remotetest.Status(http.StatusBadGateway, ""),
		"503":              remotetest.Status(http.StatusServiceUnavailable, ""),
		"503 with a time":  remotetest.Status(http.StatusServiceUnavailable, "0"),
		"504":              remotetest.Status(http.StatusGatewayTimeout, ""),
		"a cut connection": remotetest.CutAfter(100, nil),
	} {
		for scheme, rules := range map[string]remotetest.Rules{"nobody": {}, "token": harbor()} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				rules.Meddle = func(_ *http.Request, n int) http.Handler {
					if n == 0 {
						return trouble
					}
					return nil
				}
				reg := remotetest.New(t, rules)
				reg.Image("library/a", "1", []byte("layer"))
				seen := 0
				p, err := open(t, reg).Walk(t.Context(), remote.Order{Only: []string{"library/a"}, See: func(f remote.Fact) {
					seen++
					if f.Err != nil {
						t.Errorf("%s: %v", f.Kind, f.Err)
					}
				}})
				if err != nil || p.Blobs != 2 {
					t.Errorf("got %+v, %v, want both blobs hashed", p, err)
				}
			})
		}
	}
}

func TestWhatDoesNotPassIsUnavailable(t *testing.T) {
	for _, status := range []int{429, 500, 502, 503, 504} {
		reg := remotetest.New(t, remotetest.Rules{Meddle: func(*http.Request, int) http.Handler { return remotetest.Status(status, "") }})
		r := open(t, reg)
		for name, err := range map[string]error{
			"tags": second(r.Tags(t.Context(), "a")), "repositories": second(r.Repositories(t.Context())), "resolve": second(r.Resolve(t.Context(), "a", "1")),
		} {
			wantError(t, err, mooring.ErrUnavailable, "status")
			if name == "tags" {
				wantError(t, err, mooring.ErrUnavailable, http.StatusText(status))
			}
		}
		tries := 0
		for _, q := range reg.Requests() {
			if strings.HasSuffix(q.Path, "/tags/list") {
				tries++
			}
		}
		if wanted := map[bool]int{true: 2, false: 3}[status == 500]; tries != wanted {
			t.Errorf("%d: asked %d times, want %d", status, tries, wanted)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A token service that fails is unavailable. It has refused nobody.
func TestATokenServiceThatFailsHasRefusedNobody(t *testing.T) {
	rules := harbor()
	rules.Meddle = func(q *http.Request, _ int) http.Handler {
		if q.URL.Path == "/service/token" {
			return remotetest.Status(http.StatusBadGateway, "")
		}
		return nil
	}
	reg := remotetest.New(t, rules)
	_, err := open(t, reg).Tags(t.Context(), "library/a")
	wantError(t, err, mooring.ErrUnavailable, "token service", "502")
}

// A registry names its token service. Over the network, a password goes there in no clear text.
func TestAPasswordGoesToNoTokenServiceInClearText(t *testing.T) {
	rules := harbor()
	rules.Meddle = func(*http.Request, int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://token.invalid/token",service="harbor-registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
	}
	_, err := open(t, remotetest.New(t, rules)).Tags(t.Context(), "library/a")
	wantError(t, err, mooring.ErrInvalid, "token.invalid", "plain http")
}

func TestARegistryThatIsNotThereIsUnavailable(t *testing.T) {
	reg := remotetest.New(t, remotetest.Rules{})
	r := open(t, reg)
	reg.Server.Close()
	_, err := r.Repositories(t.Context())
	wantError(t, err, mooring.ErrUnavailable, reg.Host(), "does not answer")
	_, err = r.Walk(t.Context(), remote.Order{})
	wantError(t, err, mooring.ErrUnavailable)
}

// Something that takes connections and says nothing must not hold anybody for longer than it may.
func TestARegistryThatSaysNothingIsUnavailable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // it only took connections
	r, err := remote.Open(remote.Access{
		Registry: silent.Addr().String(), Patience: remote.Patience{Tries: 2, Pause: 1, Idle: 50 * time.Millisecond},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Tags(t.Context(), "a")
	wantError(t, err, mooring.ErrUnavailable, "does not answer")
}

// What a registry asks for is a pause of everybody: one worker that waits while seven go on gets the account blocked.
func TestRetryAfterHoldsEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		limited := make(chan struct{})
		var at [2]time.Duration
		r := overPipes(t, func(q *http.Request) *http.Response {
			since := time.Since(begun)
			res := &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}}, Body: http.NoBody}
			switch {
			case since == 0 && strings.Contains(q.URL.Path, "/a/"):
				close(limited)
				res.StatusCode = http.StatusTooManyRequests
				res.Header.Set("Retry-After", "120")
			case strings.Contains(q.URL.Path, "/a/"):
				at[0] = since
			default:
				at[1] = since
			}
			return res
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = r.Tags(t.Context(), "a") // what comes of it is of no interest
		}()
		<-limited
		synctest.Wait()
		_, _ = r.Tags(t.Context(), "b")
		<-done
		want(t, "the one that was limited went on after", at[0], 2*time.Minute)
		want(t, "another went on after", at[1], 2*time.Minute)
	})
}

// overPipes returns a client of a registry behind pipes in memory, on which a test's clock may stand still.
func overPipes(t *testing.T, serve func(*http.Request) *http.Response) *remote.Registry {
	t.Helper()
	r, err := remote.Open(remote.Access{Registry: "127.0.0.1:1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r.DialBy(func() net.Conn {
		client, server := net.Pipe()
		go func() {
			defer server.Close() //nolint:errcheck // a pipe
			for reader := bufio.NewReader(server); ; {
				q, err := http.ReadRequest(reader)
				if err != nil {
					return
				}
				if serve(q).Write(server) != nil { //nolint:bodyclose // it has none
					return
				}
			}
		}()
		return client
	})
	t.Cleanup(r.Close)
	return r
}

// A registry may say when to come back. It decides neither that anybody waits for ever, nor that he never rests.
func TestPatience(t *testing.T) {
	p := remote.Patience{Tries: 4, Pause: 100 * time.Millisecond, Longest: 300 * time.Millisecond, Told: time.Minute}
	for _, c := range []struct {
		name        string
		tries       int
		status      int
		told, after time.Duration
		again, held bool
		least, most time.Duration
	}{
		{"right", 1, 200, 0, -1, false, false, 0, 0},
		{"not there", 1, 404, 0, -1, false, false, 0, 0},
		{"refused", 1, 401, 0, -1, false, false, 0, 0},
		{"no answer", 1, 0, 0, -1, true, false, 50 * time.Millisecond, 100 * time.Millisecond},
		{"no answer, twice", 2, 0, 0, -1, true, false, 100 * time.Millisecond, 200 * time.Millisecond},
		{"no answer, three times", 3, 0, 0, -1, true, false, 150 * time.Millisecond, 300 * time.Millisecond},
		{"no answer, too often", 4, 0, 0, -1, false, false, 0, 0},
		{"a fault", 1, 500, 0, -1, true, false, 50 * time.Millisecond, 100 * time.Millisecond},
		{"a fault, twice", 2, 500, 0, -1, false, false, 0, 0},
		{"not implemented", 1, 501, 0, -1, false, false, 0, 0},
		{"restarted", 3, 502, 0, -1, true, false, 150 * time.Millisecond, 300 * time.Millisecond},
		{"too many", 1, 429, 0, -1, true, false, 50 * time.Millisecond, 100 * time.Millisecond},
		{"too many, told", 1, 429, 0, 30 * time.Second, true, true, 30 * time.Second, 30 * time.Second},
		{"too many, told no time", 9, 429, 0, 0, true, true, 100 * time.Millisecond, 100 * time.Millisecond},
		{"told too much", 1, 429, 0, time.Hour, false, true, 0, time.Hour},
		{"told too often", 1, 503, 40 * time.Second, 30 * time.Second, false, true, 0, time.Minute},
		{"told by one that has no right to", 1, 404, 0, time.Second, false, false, 0, 0},
	} {
		again, pause, held := p.Pause1(c.tries, c.status, c.told, c.after)
		if again != c.again || held != c.held || pause < c.least || pause > c.most {
			t.Errorf("%s: got %v after %v, held %v; want %v after %v to %v, held %v", c.name, again, pause, held, c.again, c.least, c.most, c.held)
		}
	}
}
