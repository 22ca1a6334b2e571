package policies

import (
	"github.com/mooring-sh/mooring"
)

// Namespace is the namespace of vSAN's capabilities in SPBM.
const Namespace = "VSAN"

// Capabilities returns p's rules as SPBM has them: numbers as int32, flags as bool, replicaPreference in the vSphere client's words.
func (p Policy) Capabilities() []mooring.Capability {
	caps := make([]mooring.Capability, len(p.rules))
	for i, r := range p.rules {
		caps[i] = mooring.Capability{Namespace: Namespace, ID: r.Name, Value: r.capability()}
	}
	return caps
}

func (r Rule) capability() any {
	d, _ := define(r.Name)
	for _, c := range d.choices {
		if c.text == r.Text {
			return c.spbm
		}
	}
	if d.kind == flag {
		return r.Number == 1
	}
	return r.Number
}

// FromCapabilities returns the policy that caps amount to, and those among them that the grammar cannot say, in their order:
// of another namespace, of an unknown name, with a value of another type or beyond vSAN's range, or the second of a name.
// A profile that was made elsewhere may hold rules that contradict each other; [Policy.Demands] then says so.
func FromCapabilities(caps []mooring.Capability) (Policy, []mooring.Capability) {
	var rules []Rule
	var rest []mooring.Capability
	seen := map[string]bool{}
	for _, c := range caps {
		rule, ok := fromCapability(c)
		if !ok || seen[rule.Name] {
			rest = append(rest, c)
			continue
		}
		seen[rule.Name] = true
		rules = append(rules, rule)
	}
	return newPolicy(rules), rest
}

func fromCapability(c mooring.Capability) (Rule, bool) {
	d, ok := define(c.ID)
	if !ok || c.Namespace != Namespace {
		return Rule{}, false
	}
	switch v := c.Value.(type) {
	case int32:
		if d.kind == number {
			return d.number(int64(v))
		}
	case bool:
		if d.kind == flag {
			return Rule{Name: d.name, Number: map[bool]int32{true: 1}[v]}, true
		}
	case string:
		return d.text(v)
	}
	return Rule{}, false
}
