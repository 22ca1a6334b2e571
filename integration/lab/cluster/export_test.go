package cluster

// What the tests look at by itself.
var (
	CopySparse = copySparse
	ConfigFile = configFile
)
