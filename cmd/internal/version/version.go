// Package version says which version of Mooring a binary is.
//
// It promises the same answer in every binary of one build, and never reads anything but the binary itself.
package version

import "runtime/debug"

// version is the package's, in what is packaged: -ldflags "-X github.com/mooring-sh/mooring/cmd/internal/version.version=1.2.3".
var version string

// String returns the version that the linker was given, else what the Go toolchain wrote into the binary: the module's
// version or the commit, "+dirty" when the tree had changes, and "devel" when there is nothing of the sort.
func String() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	return fromBuild(info)
}

func fromBuild(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	commit := settings["vcs.revision"]
	if commit == "" {
		return "devel"
	}
	if settings["vcs.modified"] == "true" {
		commit += "+dirty"
	}
	return "devel " + commit
}
