// Package failover is the suite in which hosts really die: containers with volumes on machines of the lab, faults from a table or from a seed, and one
// check after each.
//
// What decides is here, pure and tested with everything else: which faults come when ([Plan]), what was promised ([Witness]), and whether that, and
// the rest of what Mooring guarantees, is so afterwards ([Judge]). What needs machines carries the build tag machines and is run by make test-failover.
//
// It promises that a case passes only if something was looked at: a volume without a single acknowledged record is a finding of its own.
package failover
