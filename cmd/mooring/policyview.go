//go:build !laptop

package main

import (
	"fmt"
	"strings"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/esx"
	"github.com/mooring-sh/mooring/policies"
)

// policyView is what -o json prints of a storage policy; its keys keep their meaning.
type policyView struct {
	Name        mooring.PolicyName `json:"name"`
	ID          mooring.ProfileID  `json:"id"`
	Description string             `json:"description"`
	Content     string             `json:"content"` // in vSAN's grammar; empty if none of the rules is vSAN's
	Rules       []ruleView         `json:"rules"`
	Others      []ruleView         `json:"others"` // those rules that the grammar cannot say
	Demand      *demandView        `json:"demand"` // null if the content is empty or demands what cannot be
	Problem     string             `json:"problem,omitempty"`
	Datastores  []string           `json:"datastores,omitempty"` // that can take it; in show only
}

// ruleView is a rule as SPBM has it.
type ruleView struct {
	Namespace string `json:"namespace"`
	ID        string `json:"id"`
	Value     any    `json:"value"` // a number, a boolean or a text
}

// demandView is what a policy demands of a cluster.
type demandView struct {
	Layout   string `json:"layout"`
	Failures int    `json:"failures"`
	Hosts    int    `json:"hosts"`
	Devices  int    `json:"devices"`
	Forced   bool   `json:"forced"`

	text string
}

// viewPolicy returns what the profile says, in vSAN's words where it has any.
func viewPolicy(p esx.Profile) policyView {
	policy, others := policies.FromCapabilities(p.Capabilities)
	view := policyView{
		Name:        p.Name,
		ID:          p.ID,
		Description: p.Description,
		Rules:       viewRules(p.Capabilities),
		Others:      viewRules(others),
	}
	if len(policy.Rules()) == 0 {
		return view
	}
	view.Content = policy.String()
	demand, err := policy.Demands()
	if err != nil {
		view.Problem = err.Error()
		return view
	}
	view.Demand = &demandView{
		Layout: demand.Layout, Failures: demand.Failures, Hosts: demand.Hosts, Devices: demand.Devices, Forced: demand.Forced,
		text: demand.String(),
	}
	return view
}

func viewRules(capabilities []mooring.Capability) []ruleView {
	rules := make([]ruleView, len(capabilities))
	for i, c := range capabilities {
		switch c.Value.(type) {
		case int32, bool, string:
		default:
			c.Value = fmt.Sprint(c.Value) // sets and ranges, of other namespaces
		}
		rules[i] = ruleView{Namespace: c.Namespace, ID: c.ID, Value: c.Value}
	}
	return rules
}

// rows returns the policy for people.
func (v policyView) rows() [][]string {
	demands := v.Problem
	if v.Demand != nil {
		demands = v.Demand.text
	}
	return [][]string{
		{"name", string(v.Name)},
		{"profile", string(v.ID)},
		{"description", v.Description},
		{"content", v.Content},
		{"rules", listRules(v.Rules)},
		{"other rules", listRules(v.Others)},
		{"demands", demands},
		{"datastores", strings.Join(v.Datastores, ", ")},
	}
}

// listRules says rules in one cell: VSAN.stripeWidth=2.
func listRules(rules []ruleView) string {
	texts := make([]string, len(rules))
	for i, r := range rules {
		texts[i] = fmt.Sprintf("%s.%s=%v", r.Namespace, r.ID, r.Value)
	}
	return strings.Join(texts, ", ")
}
