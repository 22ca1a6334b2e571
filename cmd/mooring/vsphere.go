//go:build !laptop

package main

import "github.com/spf13/cobra"

// ofVSphere returns the commands that log in to vCenter themselves. Their client is half of the program, so that a program for laptops, which is
// built with the tag laptop, goes without them.
func ofVSphere() []*cobra.Command { return []*cobra.Command{newPolicy()} }
