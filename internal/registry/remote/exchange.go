package remote

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// exchange is one thing that is asked of the registry, through regclient: how, and what came back. It travels in the context of the requests that regclient
// makes of it. regclient reads what is answered as far as it understands it, and drops the rest; an exchange keeps the bytes themselves, by which this package judges.
type exchange struct {
	// limit is how many bytes of an answer are read and kept; more is an error. Zero: an answer that is good is a stream, which nobody keeps.
	limit int64
	// offset is where in the content the stream is to begin.
	offset int64

	answer                    // the last one
	referrers answer          // the last one of the referrers API
	seen      map[string]bool // the URLs that were answered well: a page that names one of them as the next has no end
}

// answer is what came back for one request, after all tries.
type answer struct {
	path   string
	status int // 0: no answer, and err says why
	header http.Header
	body   []byte // unless it is a stream
	err    error
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// ok tells whether the last answer is what was asked for.
func (x *exchange) ok() bool { return x.err == nil && x.status == http.StatusOK }

func (x *exchange) keep(u *url.URL, a answer) {
	x.answer = a
	if strings.Contains(a.path, "/referrers/") {
		x.referrers = a
	}
	if a.status == http.StatusOK {
		if x.seen == nil {
			x.seen = make(map[string]bool)
		}
		x.seen[u.String()] = true
	}
}

// said is the answer's own explanation, on one line: the errors that the distribution specification lays down, or else how the text begins.
func (a answer) said() string {
	const most = 200
	var body struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	text := strings.ToValidUTF8(string(a.body), "?")
	if json.Unmarshal(a.body, &body) == nil && len(body.Errors) > 0 {
		first := body.Errors[0]
		text = strings.TrimSuffix(first.Code+": "+first.Message, ": ")
	}
	text = strings.Join(strings.FieldsFunc(text, func(c rune) bool {
		return unicode.IsSpace(c) || !unicode.IsPrint(c)
	}), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
