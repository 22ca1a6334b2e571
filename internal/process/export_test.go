package process

// Parse is parse.
func Parse(stat []byte) (Process, error) { return parse(stat) }
