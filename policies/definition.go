package policies

import (
	"fmt"
	"math"
	"strings"
)

// The names of the rules that other files of this package ask for.
const (
	failuresToTolerate = "hostFailuresToTolerate"
	stripeWidth        = "stripeWidth"
	forceProvisioning  = "forceProvisioning"
	reservation        = "proportionalCapacity"
	replicaPreference  = "replicaPreference"
)

// kind says how a rule's value is written and what SPBM makes of it.
type kind int

const (
	number kind = iota // iN; xsd:int
	flag               // i0 or i1; xsd:boolean
	choice             // "text"; xsd:string
)

// definition is one capability that vSAN has.
type definition struct {
	name     string // the same in the grammar and in SPBM
	kind     kind
	min, max int32 // of numbers and flags
	fallback int32 // vSAN's default
	choices  []alternative
	note     string // added where a number is refused
}

// alternative is a value of a choice: as the grammar says it, and as SPBM does. The first one is vSAN's default.
type alternative struct{ text, spbm string }

// definitions lists what vSAN has, in the order in which policies are printed. The ranges are those of vSAN itself;
// iopsLimit ends where xsd:int does.
func definitions() []definition {
	return []definition{
		{name: failuresToTolerate, kind: number, max: 3, fallback: 1},
		{name: stripeWidth, kind: number, min: 1, max: 12, fallback: 1},
		{name: forceProvisioning, kind: flag, max: 1},
		{name: reservation, kind: number, max: 100, note: " percent"},
		{name: "cacheReservation", kind: number, max: 1000000, note: " (percent × 10000)"},
		{name: "checksumDisabled", kind: flag, max: 1},
		{name: replicaPreference, kind: choice, choices: []alternative{
			{"Performance", "RAID-1 (Mirroring) - Performance"},
			{"Capacity", "RAID-5/6 (Erasure Coding) - Capacity"},
		}},
		{name: "iopsLimit", kind: number, max: math.MaxInt32},
	}
}

// Names returns the names of all rules that a policy may hold, in the order in which they are printed.
func Names() []string {
	var names []string
	for _, d := range definitions() {
		names = append(names, d.name)
	}
	return names
}

// define returns the definition of that name.
func define(name string) (definition, bool) {
	for _, d := range definitions() {
		if d.name == name {
			return d, true
		}
	}
	return definition{}, false
}

// position returns where rules of that name are printed.
func position(name string) int {
	for i, d := range definitions() {
		if d.name == name {
			return i
		}
	}
	return len(definitions())
}

// standard returns the rule that holds where a policy says nothing.
func (d definition) standard() Rule {
	if d.kind == choice {
		return Rule{Name: d.name, Text: d.choices[0].text}
	}
	return Rule{Name: d.name, Number: d.fallback}
}

// wants says, for an error, what may be written as the value.
func (d definition) wants() string {
	switch d.kind {
	case choice:
		texts := make([]string, len(d.choices))
		for i, c := range d.choices {
			texts[i] = `"` + c.text + `"`
		}
		return strings.Join(texts, " or ")
	case flag:
		return "i0 or i1"
	default:
		return fmt.Sprintf("i%d to i%d%s", d.min, d.max, d.note)
	}
}

// number returns the rule with value n, if n is within the range.
func (d definition) number(n int64) (Rule, bool) {
	if d.kind == choice || n < int64(d.min) || n > int64(d.max) {
		return Rule{}, false
	}
	return Rule{Name: d.name, Number: int32(n)}, true
}

// text returns the rule with value s, in the grammar's spelling or in SPBM's, which is what the vSphere client shows.
func (d definition) text(s string) (Rule, bool) {
	for _, c := range d.choices {
		if s == c.text || s == c.spbm {
			return Rule{Name: d.name, Text: c.text}, true
		}
	}
	return Rule{}, false
}
