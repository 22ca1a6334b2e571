//go:build race

package images_test

// raced says that the race detector is on: pools forget what they have, and garbage stays longer than in a program as it is shipped.
const raced = true
