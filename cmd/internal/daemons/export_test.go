package daemons

// ParseJobs is parseJobs, for the tests.
func ParseJobs(list string) map[string]string { return parseJobs(list) }
