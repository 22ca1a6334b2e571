//go:build laptop

package main

import "github.com/spf13/cobra"

// ofVSphere returns no command.
func ofVSphere() []*cobra.Command { return nil }
