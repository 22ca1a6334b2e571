//go:build !race

package images_test

const raced = false
