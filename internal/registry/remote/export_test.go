package remote

import (
	"context"
	"net"
	"time"
)

// What is read of headers and files that others write.
var (
	RetryAfter   = retryAfter
	NextPage     = nextPage
	FirstByte    = firstByte
	ParseAddress = func(text string, plain bool) (string, bool, error) {
		a, err := parseAddress(text, plain)
		return a.host, a.plain, err
	}
	DockerEntry = func(text []byte, host string) (Credentials, error) {
		conf, err := parseDockerConfig(text)
		if err != nil {
			return Credentials{}, err
		}
		return conf.entry(dockerKeys(host))
	}
	Said = func(body []byte) string { return answer{body: body}.said() }
)

// Pause returns how long after so many tries with this status, and whether at all. after is the registry's Retry-After; negative: none.
func (p Patience) Pause1(tries, status int, told, after time.Duration) (again bool, pause time.Duration, held bool) {
	v := p.withDefaults().judge(attempt{tries: tries, status: status, told: told, after: after})
	return v.again, v.pause, v.told
}

// DialBy has connections made by a test.
func (r *Registry) DialBy(dial func() net.Conn) {
	r.wire.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial(), nil }
}
