package version

import "runtime/debug"

// FromBuild is fromBuild, for the tests.
func FromBuild(info *debug.BuildInfo) string { return fromBuild(info) }
