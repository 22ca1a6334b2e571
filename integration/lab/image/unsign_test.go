package image_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring/integration/lab/image"
)

func TestModuleWithoutItsSignature(t *testing.T) {
	t.Parallel()
	const mark = "~Module signature appended~\n"
	info := func(length uint32) string {
		return "\x00\x00\x02\x00\x00\x00\x00\x00" + string(binary.BigEndian.AppendUint32(nil, length))
	}
	for name, c := range map[string]struct {
		module string
		want   int
		fails  bool
	}{
		"signed":             {"module" + "signature" + info(9) + mark, 6, false},
		"never signed":       {"module", 6, false},
		"mark alone":         {mark, 0, true},
		"length of too much": {"module" + info(4000000000) + mark, 0, true},
	} {
		got, err := image.Unsigned([]byte(c.module))
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d, %v; want %d, an error: %t", name, got, err, c.want, c.fails)
		}
	}
	// A real one has a PKCS #7 message there, of which nothing may stay.
	if got, _ := image.Unsigned([]byte(strings.Repeat("m", 5000) + strings.Repeat("s", 663) + info(663) + mark)); got != 5000 {
		t.Errorf("%d bytes stay; want 5000", got)
	}
}
