package policies_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/policies"
)

// Every spelling that the ancestor's administrators have in their scripts must go on working, and print one way.
func TestParsePrintsTheCanonicalForm(t *testing.T) {
	for text, want := range map[string]string{
		`(("stripeWidth" i2))`:                                                     `(("stripeWidth" i2))`,
		`(("stripeWidth" i2) ("hostFailuresToTolerate" i1))`:                       `(("hostFailuresToTolerate" i1) ("stripeWidth" i2))`,
		`(("proportionalCapacity" i50) ("hostFailuresToTolerate" i0))`:             `(("hostFailuresToTolerate" i0) ("proportionalCapacity" i50))`,
		`(("hostFailuresToTolerate" i1) ("forceProvisioning" i1))`:                 `(("hostFailuresToTolerate" i1) ("forceProvisioning" i1))`,
		"\t( \n( \"stripeWidth\"\ti12 )\r\n)  ":                                    `(("stripeWidth" i12))`,
		`(("stripeWidth"i1)("checksumDisabled"i0))`:                                `(("stripeWidth" i1) ("checksumDisabled" i0))`,
		`(("cacheReservation" l1000000))`:                                          `(("cacheReservation" i1000000))`,
		`(("iopsLimit" i0002147483647))`:                                           `(("iopsLimit" i2147483647))`,
		`(("proportionalCapacity" (i0 i100)))`:                                     `(("proportionalCapacity" i0))`,
		`(("proportionalCapacity" ( l40 i100 )))`:                                  `(("proportionalCapacity" i40))`,
		`(("replicaPreference" "Capacity") ("hostFailuresToTolerate" i2))`:         `(("hostFailuresToTolerate" i2) ("replicaPreference" "Capacity"))`,
		`(("replicaPreference" "RAID-1 (Mirroring) - Performance"))`:               `(("replicaPreference" "Performance"))`,
		`(("replicaPreference" "RAID-5/6 (Erasure Coding) - Capacity"))`:           `(("replicaPreference" "Capacity"))`,
		`(("hostFailuresToTolerate" i3) ("replicaPreference" "Performance"))`:      `(("hostFailuresToTolerate" i3) ("replicaPreference" "Performance"))`,
		`(("hostFailuresToTolerate" i0) ("replicaPreference" "Capacity"))`:         `(("hostFailuresToTolerate" i0) ("replicaPreference" "Capacity"))`,
		`(("iopsLimit" i1) ("checksumDisabled" i1) ("forceProvisioning" i0))`:      `(("forceProvisioning" i0) ("checksumDisabled" i1) ("iopsLimit" i1))`,
		`(("cacheReservation" i0) ("proportionalCapacity" i100) ("iopsLimit" i0))`: `(("proportionalCapacity" i100) ("cacheReservation" i0) ("iopsLimit" i0))`,
		"(\n\t(\"stripeWidth\" i2)\n\t(\"hostFailuresToTolerate\" i1)\n)\n":        `(("hostFailuresToTolerate" i1) ("stripeWidth" i2))`,
		`(("hostFailuresToTolerate" i2) ("replicaPreference" "Performance") )`:     `(("hostFailuresToTolerate" i2) ("replicaPreference" "Performance"))`,
		`(("replicaPreference" "Capacity") ("hostFailuresToTolerate" i1))`:         `(("hostFailuresToTolerate" i1) ("replicaPreference" "Capacity"))`,
	} {
		policy, err := policies.Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
			continue
		}
		if got := policy.String(); got != want {
			t.Errorf("Parse(%q) prints\n got %s\nwant %s", text, got, want)
		}
	}
}

// The ancestor took any text and let vSAN refuse it at the first create; here the administrator is shown the place. In the
// tables the caret's line is given by where ^ stands.
func TestParsePointsAtThePlace(t *testing.T) {
	for _, test := range []struct{ name, text, caret, problem string }{
		{"empty", ``, `^`, `a policy begins with (, such as (("stripeWidth" i2))`},
		{"no list", `"stripeWidth" i2`, `^`, `begins with (`},
		{"no rules", `()`, ` ^`, `at least one rule`},
		{"one level of parentheses", `("stripeWidth" i2)`, ` ^`, `a rule begins with (, such as ("stripeWidth" i2)`},
		{"rule not closed", `(("stripeWidth" i2`, `                  ^`, `the rule that begins at column 2 lacks its closing )`},
		{"second rule inside the first", `(("stripeWidth" i2 ("iopsLimit" i1)))`, `                   ^`, `begins at column 2 lacks its closing )`},
		{"policy not closed", `(("stripeWidth" i2)`, `                   ^`, `the policy lacks its closing )`},
		{"more after the end", `(("stripeWidth" i2)))`, `                    ^`, `nothing may follow`},
		{"bare name", `((stripeWidth i2))`, `  ^`, `stands in double quotes`},
		{"name without end", `(("stripeWidth i2))`, `  ^`, `closing quotation mark`},
		{"misspelt in the ancestor's own page", `(("hostFailuresToTolarate" i0))`, `  ^`, `did you mean "hostFailuresToTolerate"? (allowed are hostFailuresToTolerate, stripeWidth, `},
		{"wrong case", `(("stripewidth" i2))`, `  ^`, `did you mean "stripeWidth"?`},
		{"nothing near", `(("raid" i2))`, `  ^`, `there is no rule "raid", allowed are hostFailuresToTolerate, `},
		{"given twice", `(("stripeWidth" i2) ("stripeWidth" i2))`, `                     ^`, `stripeWidth is given twice`},
		{"no value", `(("stripeWidth"))`, `               ^`, `stripeWidth lacks its value: i1 to i12`},
		{"bare number", `(("stripeWidth" 2))`, `                ^`, `written with an i before it: i2`},
		{"not a number", `(("stripeWidth" two))`, `                ^`, `stripeWidth wants i1 to i12`},
		{"a fraction", `(("stripeWidth" i2.5))`, `                ^`, `stripeWidth wants i1 to i12`},
		{"text for a number", `(("stripeWidth" "2"))`, `                ^`, `stripeWidth wants i1 to i12`},
		{"number for a text", `(("replicaPreference" i1))`, `                      ^`, `wants "Performance" or "Capacity"`},
		{"another text", `(("replicaPreference" "RAID-5"))`, `                      ^`, `cannot be "RAID-5", allowed are "Performance" or "Capacity"`},
		{"FTT beyond", `(("hostFailuresToTolerate" i4))`, `                           ^`, `cannot be 4, allowed are i0 to i3`},
		{"FTT negative", `(("hostFailuresToTolerate" i-1))`, `                           ^`, `cannot be -1, allowed are i0 to i3`},
		{"no stripe", `(("stripeWidth" i0))`, `                ^`, `cannot be 0, allowed are i1 to i12`},
		{"stripes beyond", `(("stripeWidth" i13))`, `                ^`, `cannot be 13, allowed are i1 to i12`},
		{"flag beyond", `(("forceProvisioning" i2))`, `                      ^`, `allowed are i0 or i1`},
		{"checksum beyond", `(("checksumDisabled" i2))`, `                     ^`, `allowed are i0 or i1`},
		{"reservation beyond", `(("proportionalCapacity" i101))`, `                         ^`, `allowed are i0 to i100 percent`},
		{"cache beyond", `(("cacheReservation" i1000001))`, `                     ^`, `i0 to i1000000 (percent × 10000)`},
		{"iops beyond", `(("iopsLimit" i2147483648))`, `              ^`, `i0 to i2147483647`},
		{"more digits than a number has", `(("iopsLimit" l99999999999999999999))`, `              ^`, `cannot be 99999999999999999999`},
		{"pair elsewhere", `(("stripeWidth" (i1 i2)))`, `                ^`, `stripeWidth wants i1 to i12, not a pair`},
		{"pair that SPBM cannot say", `(("proportionalCapacity" (i0 i50)))`, `                             ^`, `pair is i100`},
		{"pair of one", `(("proportionalCapacity" (i0)))`, `                            ^`, `wants i0 to i100`},
		{"pair of three", `(("proportionalCapacity" (i0 i100 i100)))`, `                                  ^`, `the pair lacks its closing )`},
		{"RAID-6 for three failures", `(("replicaPreference" "Capacity") ("hostFailuresToTolerate" i3))`, `                                                            ^`, `tolerates 1 or 2 failures, not 3`},
		{"column in characters", `(("größe" i1) )`, `  ^`, `there is no rule "größe"`},
		{"after wide characters", `(("replicaPreference" "größe") x)`, `                      ^`, `cannot be "größe"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := policies.Parse(test.text)
			syntax, ok := errors.AsType[*policies.SyntaxError](err)
			if !ok {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if !errors.Is(err, mooring.ErrInvalid) {
				t.Errorf("%v does not wrap ErrInvalid", err)
			}
			if want := test.text + "\n" + test.caret; syntax.Caret() != want {
				t.Errorf("points at\n%s\nwant\n%s", syntax.Caret(), want)
			}
			if !strings.Contains(err.Error(), test.problem) {
				t.Errorf("says %q, want %q in it", err, test.problem)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
		})
	}
}

func TestCaretShowsTheLineOfTheProblem(t *testing.T) {
	for _, test := range []struct{ name, text, message, caret string }{
		{"second line", "(\n\t(\"stripeWith\" i2)\n)", "policy, line 2, column 3: ", "\t(\"stripeWith\" i2)\n\t ^"},
		{"carriage returns", "(\r\n  (\"stripeWidth\" 2)\r\n)", "policy, line 2, column 18: ", "  (\"stripeWidth\" 2)\n                 ^"},
		{"end of the text", "((\"stripeWidth\" i2)\n", "policy, line 2, column 1: ", "\n^"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := policies.Parse(test.text)
			syntax, ok := errors.AsType[*policies.SyntaxError](err)
			if !ok {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if !strings.HasPrefix(err.Error(), test.message) {
				t.Errorf("says %q, want %q first", err, test.message)
			}
			if syntax.Caret() != test.caret {
				t.Errorf("points at\n%s\nwant\n%s", syntax.Caret(), test.caret)
			}
		})
	}
}

func TestPoliciesAreEqualInAnyOrder(t *testing.T) {
	parse := func(text string) policies.Policy {
		policy, err := policies.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return policy
	}
	a := parse(`(("stripeWidth" i2) ("hostFailuresToTolerate" i1))`)
	if b := parse(`(("hostFailuresToTolerate" l1)("stripeWidth" i2))`); !a.Equal(b) {
		t.Errorf("%s and %s differ", a, b)
	}
	if b := parse(`(("stripeWidth" i2))`); a.Equal(b) {
		t.Errorf("%s and %s are equal", a, b)
	}
	if b := parse(`(("hostFailuresToTolerate" i1) ("stripeWidth" i3))`); a.Equal(b) {
		t.Errorf("%s and %s are equal", a, b)
	}
}

// Whatever an administrator pastes, the command says where it is wrong and does not die; what it prints can be pasted again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "(", ")", "()", "(()", `(("`, `(("stripeWidth" i2))`, `(("stripeWidth" i2) ("hostFailuresToTolerate" i1))`,
		`(("proportionalCapacity" (i0 i100)))`, `(("replicaPreference" "Capacity"))`, `(("cacheReservation" l1000000))`,
		`(("iopsLimit" i-99999999999999999999))`, "((\"stripeWith\"\n\t i2))", "((\"\xff\" i1))", `(("stripeWidth" i))`, `(("stripeWidth" l--1))`,
		`(("hostFailuresToTolerate" i3) ("replicaPreference" "Capacity"))`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		policy, err := policies.Parse(text)
		if err != nil {
			syntax, ok := errors.AsType[*policies.SyntaxError](err)
			if !ok || syntax.Offset < 0 || syntax.Offset > len(text) {
				t.Fatalf("Parse(%q): %#v is no place in the text", text, err)
			}
			if lines := strings.Split(syntax.Caret(), "\n"); len(lines) != 2 || strings.Trim(lines[1], " \t") != "^" {
				t.Fatalf("Parse(%q) points with %q", text, syntax.Caret())
			}
			return
		}
		again, err := policies.Parse(policy.String())
		if err != nil || !again.Equal(policy) {
			t.Fatalf("%q prints as %s, which parses to %s, %v", text, policy, again, err)
		}
	})
}
