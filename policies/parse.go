package policies

import (
	"fmt"
	"strconv"
	"strings"
)

const example = `(("stripeWidth" i2))`

const (
	spaces     = " \t\r\n"
	delimiters = spaces + `()"`
)

// Parse returns the policy that text spells:
//
//	policy := "(" rule rule ... ")"
//	rule   := "(" "\"" NAME "\"" value ")"
//	value  := "i" DIGITS | "l" DIGITS | "\"" TEXT "\"" | "(" value value ")"
//
// White space between these means nothing. The pair is what vSAN prints for a space reservation, (i0 i100): the part
// that is reserved and the part up to which the object may grow. It is accepted for proportionalCapacity alone, as
// another spelling of its first number, and only with a second one of 100: SPBM can say no other.
//
// The error is a [*SyntaxError].
func Parse(text string) (Policy, error) {
	p := parser{text: text}
	if !p.take("(") {
		return Policy{}, p.fail(p.at, "a policy begins with (, such as %s", example)
	}
	var rules []Rule
	places := map[string]int{}
	for !p.take(")") {
		if p.ended() {
			return Policy{}, p.fail(p.at, "the policy lacks its closing )")
		}
		rule, place, err := p.rule()
		if err != nil {
			return Policy{}, err
		}
		if _, twice := places[rule.Name]; twice {
			return Policy{}, p.fail(place.name, "%s is given twice", rule.Name)
		}
		rules, places[rule.Name] = append(rules, rule), place.value
	}
	if len(rules) == 0 {
		return Policy{}, p.fail(p.at-1, "a policy has at least one rule, such as %s", example)
	}
	if !p.ended() {
		return Policy{}, p.fail(p.at, "nothing may follow the policy's closing )")
	}
	policy := newPolicy(rules)
	if problem := policy.contradiction(); problem != "" {
		return Policy{}, p.fail(places[failuresToTolerate], "%s", problem) // more than the default, so it was given
	}
	return policy, nil
}

// parser reads text from the byte at.
type parser struct {
	text string
	at   int
}

// literal is a value as it was written.
type literal struct {
	at     int
	number int64
	text   string
	isText bool
}

// place says where a rule's name and its value begin.
type place struct{ name, value int }

func (p *parser) fail(at int, format string, args ...any) error {
	return &SyntaxError{Text: p.text, Offset: at, Problem: fmt.Sprintf(format, args...)}
}

func (p *parser) skip() {
	for p.at < len(p.text) && strings.IndexByte(spaces, p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) ended() bool {
	p.skip()
	return p.at == len(p.text)
}

// take steps over s and any space before it, if s comes next.
func (p *parser) take(s string) bool {
	p.skip()
	if !strings.HasPrefix(p.text[p.at:], s) {
		return false
	}
	p.at += len(s)
	return true
}

func (p *parser) rule() (Rule, place, error) {
	var where place
	if !p.take("(") {
		return Rule{}, where, p.fail(p.at, "a rule begins with (, such as %s", example[1:len(example)-1])
	}
	start := p.at - 1
	p.skip()
	where.name = p.at
	name, err := p.name()
	if err != nil {
		return Rule{}, where, err
	}
	d, ok := define(name)
	if !ok {
		return Rule{}, where, p.fail(where.name, "%s", unknown(name))
	}
	p.skip()
	where.value = p.at
	rule, err := p.value(d)
	if err != nil {
		return Rule{}, where, err
	}
	if !p.take(")") {
		_, column := (&SyntaxError{Text: p.text, Offset: start}).Position()
		return Rule{}, where, p.fail(p.at, "the rule that begins at column %d lacks its closing )", column)
	}
	return rule, where, nil
}

func (p *parser) name() (string, error) {
	if !strings.HasPrefix(p.text[p.at:], `"`) {
		return "", p.fail(p.at, `a rule's name stands in double quotes, such as "stripeWidth"`)
	}
	return p.quoted()
}

// value reads the value of d and checks it.
func (p *parser) value(d definition) (Rule, error) {
	v, err := p.literal(d)
	if err != nil {
		return Rule{}, err
	}
	switch {
	case d.kind == choice && !v.isText, d.kind != choice && v.isText:
		return Rule{}, p.fail(v.at, "%s wants %s", d.name, d.wants())
	case v.isText:
		if rule, ok := d.text(v.text); ok {
			return rule, nil
		}
		return Rule{}, p.fail(v.at, "%s cannot be %q, allowed are %s", d.name, v.text, d.wants())
	}
	rule, ok := d.number(v.number)
	if !ok {
		return Rule{}, p.fail(v.at, "%s cannot be %d, allowed are %s", d.name, v.number, d.wants())
	}
	return rule, nil
}

// literal reads a number, a text, or a reservation's pair.
func (p *parser) literal(d definition) (literal, error) {
	at := p.at
	rest := p.text[at:]
	switch {
	case strings.HasPrefix(rest, `"`):
		text, err := p.quoted()
		return literal{at: at, text: text, isText: true}, err
	case strings.HasPrefix(rest, "(") && d.name == reservation:
		return p.pair()
	case strings.HasPrefix(rest, "("):
		return literal{}, p.fail(at, "%s wants %s, not a pair", d.name, d.wants())
	case rest == "" || rest[0] == ')':
		return literal{}, p.fail(at, "%s lacks its value: %s", d.name, d.wants())
	}
	return p.number(d)
}

// number reads i or l and digits. A minus sign is read too: the range refuses it in better words.
func (p *parser) number(d definition) (literal, error) {
	at := p.at
	word := p.text[at:]
	if end := strings.IndexAny(word, delimiters); end >= 0 {
		word = word[:end]
	}
	digits := strings.TrimLeft(word, "-")
	signed := strings.TrimPrefix(strings.TrimPrefix(word, "i"), "l")
	if len(word)-len(signed) != 1 || !isNumber(signed) {
		if isNumber(digits) {
			return literal{}, p.fail(at, "a number is written with an i before it: i%s", word)
		}
		return literal{}, p.fail(at, "%s wants %s", d.name, d.wants())
	}
	n, err := strconv.ParseInt(signed, 10, 64)
	if err != nil { // more digits than any range has
		return literal{}, p.fail(at, "%s cannot be %s, allowed are %s", d.name, signed, d.wants())
	}
	p.at += len(word)
	return literal{at: at, number: n}, nil
}

func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// pair reads (iN i100).
func (p *parser) pair() (literal, error) {
	d, _ := define(reservation)
	p.take("(")
	var numbers [2]literal
	for i := range numbers {
		p.skip()
		var err error
		if numbers[i], err = p.number(d); err != nil {
			return literal{}, err
		}
	}
	if numbers[1].number != int64(d.max) {
		return literal{}, p.fail(numbers[1].at, "the second number of %s's pair is i%d, or only the first one is given", d.name, d.max)
	}
	if !p.take(")") {
		return literal{}, p.fail(p.at, "the pair lacks its closing )")
	}
	return numbers[0], nil
}

// quoted reads a text in double quotes; there is no escape.
func (p *parser) quoted() (string, error) {
	text, _, ok := strings.Cut(p.text[p.at+1:], `"`)
	if !ok || strings.Contains(text, "\n") {
		return "", p.fail(p.at, "the text that begins here lacks its closing quotation mark")
	}
	p.at += len(text) + 2
	return text, nil
}
