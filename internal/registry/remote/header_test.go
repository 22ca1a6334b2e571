package remote_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mooring-sh/mooring/internal/registry/remote"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, wanted := range map[string]time.Duration{
		"": -1, "120": 2 * time.Minute, " 7 ": 7 * time.Second, "0": 0, "-1": -1, "1.5": -1, "99999999999999999999": -1, "soon": -1,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:00 GMT": 0, "Friday, 02-Jan-26 03:05:05 GMT": time.Minute,
	} {
		want(t, "Retry-After: "+text, remote.RetryAfter(text, now), wanted)
	}
}

func TestNextPage(t *testing.T) {
	for _, c := range []struct {
		headers []string
		last    string
		more    bool
	}{
		{nil, "", false},
		{[]string{`</v2/_catalog?last=library%2Fbig&n=1>; rel="next"`}, "library/big", true},
		{[]string{`<https://harbor.example.com/v2/_catalog?n=1&last=a>;rel=next`}, "a", true},
		{[]string{`</x?last=b>; rel="prev", </x?last=c>; title="x"; REL="Next"`}, "c", true},
		{[]string{`</x?last=b>; rel="prev"`, `</x?last=c>; rel="next"`}, "c", true},
		{[]string{`</x?last=b>; rel="prev"`}, "", false},
		{[]string{`</x>; rel="next"`}, "", true},
		{[]string{`<%zz>; rel="next"`}, "", true},
		{[]string{`<>; rel="next"`}, "", true},
		{[]string{`rel="next"`}, "", false},
		{[]string{`<`}, "", false},
	} {
		last, more := remote.NextPage(c.headers)
		if last != c.last || more != c.more {
			t.Errorf("%q: got %q, %v, want %q, %v", c.headers, last, more, c.last, c.more)
		}
	}
}

func TestFirstByte(t *testing.T) {
	for text, wanted := range map[string]int64{
		"bytes 7-41/42": 7, "bytes 0-0/*": 0, "Bytes 5-6/7": 5, "": -1, "bytes */42": -1, "bytes 7-41": -1, "items 7-41/42": -1, "bytes -7-41/42": -1, "bytes x-1/2": -1,
	} {
		n, ok := remote.FirstByte(text)
		if !ok {
			n = -1
		}
		want(t, "Content-Range: "+text, n, wanted)
	}
}

func TestWhatARegistrySaysFitsALine(t *testing.T) {
	for text, wanted := range map[string]string{
		`{"errors":[{"code":"DENIED","message":"requested access\nis denied"}]}`: "DENIED: requested access is denied",
		`{"errors":[{"code":"DENIED"}]}`:                                         "DENIED",
		`{"errors":[]}`:                                                          `{"errors":[]}`,
		"<html>\r\n\tbad gateway\x1b[31m":                                        "<html> bad gateway [31m",
		"":                                                                       "",
	} {
		want(t, text, remote.Said([]byte(text)), wanted)
	}
}

// Headers and bodies come from anywhere.
func FuzzHeaders(f *testing.F) {
	f.Add("120")
	f.Add(`</v2/_catalog?last=library%2Fbig&n=1>; rel="next"`)
	f.Add("bytes 7-41/42")
	f.Add(`{"errors":[{"code":"DENIED","message":"no"}]}`)
	f.Add("\xf5 is no UTF-8")
	f.Add("::1:0")
	f.Add("http://127.0.0.1:5000")
	f.Fuzz(func(t *testing.T, text string) {
		if d := remote.RetryAfter(text, time.Unix(0, 0)); d < -1 {
			t.Errorf("RetryAfter: %d", d)
		}
		if last, more := remote.NextPage([]string{text, text}); last != "" && !more {
			t.Errorf("NextPage: after %q, and no more", last)
		}
		if n, ok := remote.FirstByte(text); ok && n < 0 {
			t.Errorf("FirstByte: %d", n)
		}
		said := remote.Said([]byte(text))
		if len(said) > 210 || !utf8.ValidString(said) {
			t.Errorf("Said: %q", said)
		}
		for _, c := range said {
			if unicode.IsControl(c) {
				t.Errorf("Said: %q has control characters", said)
			}
		}
		if host, plain, err := remote.ParseAddress(text, false); err == nil && (host == "" || plain && !loopback(host)) {
			t.Errorf("ParseAddress: %q by plain http", host)
		}
	})
}

// loopback is what may be spoken to by plain http: written down once more, so that the fuzzer has something to hold against.
func loopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if zoned, _, ok := strings.Cut(name, "%"); ok {
		name = zoned
	}
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && ip.IsLoopback()
}
