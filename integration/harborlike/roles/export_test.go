package main

import "context"

// What the tests see of the roles.
var (
	NewCore       = newCore
	NewJobservice = newJobservice
	PlayCore      = playCore
)

// Manifest is what core records.
type Manifest = manifest

// Tags is what core records it in.
type Tags = tags

// Play plays a role.
func Play(ctx context.Context, args ...string) error { return play(ctx, nil, args) }
