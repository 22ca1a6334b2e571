// Package policies knows storage policies as administrators of vSAN write them,
//
//	(("stripeWidth" i2) ("hostFailuresToTolerate" i1))
//
// and as SPBM keeps them in vCenter: it parses and checks the first, converts to and from the second, and says what a
// policy demands of a cluster.
//
// It promises that every rule it accepts has a name, a type and a value that vSAN has, that an error points at the place
// in the text, and that what it prints parses to an equal policy. It is pure: it never asks vCenter whether a policy
// exists or a datastore suits it.
package policies

import (
	"slices"
	"strconv"
	"strings"
)

// Policy is a set of rules, each name at most once. Rules that a policy does not hold have vSAN's defaults. The zero value has no rules.
type Policy struct {
	rules []Rule // in the order of the table of definitions, so that equal policies are equal slices
}

// Rule is one capability and the value that it must have. Number holds it for all rules but those of text.
type Rule struct {
	Name   string
	Number int32  // flags are 0 and 1
	Text   string // of replicaPreference: Performance or Capacity
}

// newPolicy returns the policy that holds rules, whose names differ.
func newPolicy(rules []Rule) Policy {
	rules = slices.Clone(rules)
	slices.SortFunc(rules, func(a, b Rule) int { return position(a.Name) - position(b.Name) })
	return Policy{rules: rules}
}

// Rules returns the rules in the order in which String prints them.
func (p Policy) Rules() []Rule { return slices.Clone(p.rules) }

// Equal says whether p and q hold the same rules, in whatever order and spelling they were written.
func (p Policy) Equal(q Policy) bool { return slices.Equal(p.rules, q.rules) }

// String returns the canonical form: fixed order, single spaces, numbers as i. [Parse] makes an equal policy of it, except
// of "()", the policy without rules, which no profile in vCenter can be.
func (p Policy) String() string {
	printed := make([]string, len(p.rules))
	for i, r := range p.rules {
		printed[i] = r.String()
	}
	return "(" + strings.Join(printed, " ") + ")"
}

// String returns the rule as the grammar spells it: ("stripeWidth" i2).
func (r Rule) String() string {
	value := "i" + strconv.Itoa(int(r.Number))
	if r.Text != "" {
		value = `"` + r.Text + `"`
	}
	return `("` + r.Name + `" ` + value + ")"
}

// rule returns the policy's rule of that name, or vSAN's default.
func (p Policy) rule(name string) Rule {
	for _, r := range p.rules {
		if r.Name == name {
			return r
		}
	}
	d, _ := define(name)
	return d.standard()
}
