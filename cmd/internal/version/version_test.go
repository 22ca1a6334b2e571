package version_test

import (
	"runtime/debug"
	"testing"

	"github.com/mooring-sh/mooring/cmd/internal/version"
)

// A report of a bug says which version it is about, however the binary came to be.
func TestVersionComesFromTheBuild(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for want, info := range map[string]*debug.BuildInfo{
		"v1.2.3":              {Main: debug.Module{Version: "v1.2.3"}},
		"devel":               {Main: debug.Module{Version: "(devel)"}},
		"devel 0a1b2c":        {Settings: []debug.BuildSetting{setting("vcs.revision", "0a1b2c"), setting("vcs.modified", "false")}},
		"devel 0a1b2c+dirty":  {Settings: []debug.BuildSetting{setting("vcs.revision", "0a1b2c"), setting("vcs.modified", "true")}},
		"v1.2.4-0.2026+dirty": {Main: debug.Module{Version: "v1.2.4-0.2026+dirty"}, Settings: []debug.BuildSetting{setting("vcs.revision", "0a1b2c")}},
	} {
		if got := version.FromBuild(info); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if version.String() == "" {
		t.Error("the test's own binary has no version")
	}
}
