package plugin

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// conditionCode names a kind of condition, for scripts.
type conditionCode string

const (
	condBusy    conditionCode = "busy"
	condMissing conditionCode = "missing"
	condMount   conditionCode = "not-mounted"
	condFenced  conditionCode = "fenced"
	condTaken   conditionCode = "taken"
	condForeign conditionCode = "foreign-mount"
	condBehind  conditionCode = "ledger-behind"
	condLost    conditionCode = "ledger-lost"
	condMoved   conditionCode = "machine-changed"
	condUnclear conditionCode = "machine-unclear"
	condVCenter conditionCode = "vcenter"
	condProfile conditionCode = "profile"
)

// kind is what all conditions of a code have in common.
type kind struct {
	title    string
	severity admin.Severity
}

func kindOf(code conditionCode) kind {
	switch code {
	case condBusy:
		return kind{"volume cannot be let go", admin.Warning}
	case condMissing:
		return kind{"disk is missing", admin.Failing}
	case condMount:
		return kind{"volume is not mounted", admin.Failing}
	case condFenced:
		return kind{"another host or machine may still write to the disk", admin.Failing}
	case condTaken:
		return kind{"another machine has the disk", admin.Failing}
	case condForeign:
		return kind{"another disk is mounted there", admin.Failing}
	case condBehind:
		return kind{"ledger lost its newest generation", admin.Warning}
	case condLost:
		return kind{"there is no ledger to answer from", admin.Failing}
	case condMoved:
		return kind{"virtual machine changed", admin.Warning}
	case condUnclear:
		return kind{"vCenter does not say which virtual machine this is", admin.Failing}
	case condVCenter:
		return kind{"vCenter cannot be reached", admin.Failing}
	case condProfile:
		return kind{"attached without its profile", admin.Warning}
	default:
		return kind{string(code), admin.Failing}
	}
}

type conditionKey struct {
	code conditionCode
	name mooring.Name // empty for the plugin itself
}

// conditions is the table of what is wrong at present. The zero value is ready.
type conditions struct {
	mu  sync.Mutex
	now map[conditionKey]admin.Condition
}

func (c *conditions) set(code conditionCode, name mooring.Name, text, cure string) {
	c.put(conditionKey{code, name}, admin.Condition{Text: text, Cure: cure})
}

// put enters the condition, whose kind the key's code says.
func (c *conditions) put(key conditionKey, cond admin.Condition) {
	k := kindOf(key.code)
	cond.Code, cond.Severity, cond.Title = string(key.code), k.severity, k.title
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		c.now = make(map[conditionKey]admin.Condition)
	}
	c.now[key] = cond
}

func (c *conditions) clear(code conditionCode, name mooring.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.now, conditionKey{code, name})
}

// of returns the volume's conditions, sorted by code.
func (c *conditions) of(name mooring.Name) []admin.Condition {
	return c.list(func(k conditionKey) bool { return k.name == name })
}

// all returns every condition, sorted.
func (c *conditions) all() []admin.Condition {
	return c.list(func(conditionKey) bool { return true })
}

func (c *conditions) list(want func(conditionKey) bool) []admin.Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := []admin.Condition{}
	for k, cond := range c.now {
		if want(k) {
			found = append(found, cond)
		}
	}
	slices.SortFunc(found, func(a, b admin.Condition) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Text, b.Text))
	})
	return found
}

// wrong returns all that is wrong at present, of one volume or, for the empty name, of everything.
func (d *Driver) wrong(name mooring.Name) []admin.Condition {
	found := d.conditions.all()
	if name != "" {
		found = d.conditions.of(name)
	}
	if d.Warnings == nil {
		return found
	}
	k := kindOf(condProfile)
	for _, w := range d.Warnings() {
		if name == "" || w.Name == name {
			found = append(found, admin.Condition{
				Code: string(condProfile), Severity: k.severity, Title: k.title, Text: "Volume " + string(w.Name) + ": " + w.Text, Cure: w.Cure,
			})
		}
	}
	return found
}

// forget drops all that is remembered of a volume that was removed.
func (d *Driver) forget(name mooring.Name) {
	d.conditions.mu.Lock()
	for k := range d.conditions.now {
		if k.name == name {
			delete(d.conditions.now, k)
		}
	}
	d.conditions.mu.Unlock()
	d.sightings.forget(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.idle, name)
	delete(d.damaged, name)
	d.removed[name] = time.Now()
}
