package vcenter

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// Count says how many tasks of one kind have ended, and how.
type Count struct {
	Succeeded, Failed int
}

type counters struct {
	serial, logins, refused atomic.Int64

	mu    sync.Mutex
	tasks map[string]Count
	calls map[string]int
}

func (c *counters) finished(method string, fault types.BaseMethodFault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tasks == nil {
		c.tasks = map[string]Count{}
	}
	n := c.tasks[method]
	if fault == nil {
		n.Succeeded++
	} else {
		n.Failed++
	}
	c.tasks[method] = n
}

func (c *counters) called(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[string]int{}
	}
	c.calls[method]++
}

// Tasks returns how many tasks have ended, by method ("ReconfigVM_Task"). Tasks that start the inventory are among them:
// take the difference of two looks.
func (v *VCenter) Tasks() map[string]Count {
	v.counts.mu.Lock()
	defer v.counts.mu.Unlock()
	return maps.Clone(v.counts.tasks)
}

// Calls returns how many calls came in, by method, before any check.
func (v *VCenter) Calls() map[string]int {
	v.counts.mu.Lock()
	defer v.counts.mu.Unlock()
	return maps.Clone(v.counts.calls)
}

// Logins returns how many logins were accepted and refused.
func (v *VCenter) Logins() (accepted, refused int) {
	return int(v.counts.logins.Load()), int(v.counts.refused.Load())
}

// Session is an open session.
type Session struct {
	Key  string
	User string
}

// Sessions returns the open sessions.
func (v *VCenter) Sessions() []Session {
	var out []Session
	for _, s := range v.sessions() {
		out = append(out, Session{Key: s.Key, User: s.UserName})
	}
	return out
}

func (v *VCenter) sessions() []types.UserSession {
	ctx := v.context("")
	m, ok := ctx.Session.Get(v.reg.SessionManager().Self).(*simulator.SessionManager)
	if !ok {
		return nil
	}
	return m.SessionList
}

// KillSessions ends the sessions of the user, as an administrator or an idle timeout does. It returns how many there were.
func (v *VCenter) KillSessions(user string) int {
	ctx := v.context("")
	n := 0
	for _, s := range v.sessions() {
		if s.UserName == user {
			v.reg.SessionManager().TerminateSession(ctx, &types.TerminateSession{SessionId: []string{s.Key}})
			n++
		}
	}
	return n
}

func ticketBody(id, host string) *methods.AcquireGenericServiceTicketBody {
	return &methods.AcquireGenericServiceTicketBody{
		Res: &types.AcquireGenericServiceTicketResponse{
			Returnval: types.SessionManagerGenericServiceTicket{Id: id, HostName: host},
		},
	}
}

// Machine is a virtual machine as the inventory has it.
type Machine struct {
	Name      string     `json:"name"`
	BIOS      string     `json:"bios"`
	Instance  string     `json:"instance"`
	Host      string     `json:"host"`
	PoweredOn bool       `json:"poweredOn"` // as vCenter shows it, which may be wrong for a host that does not respond
	Suspended bool       `json:"suspended,omitempty"`
	Runs      bool       `json:"runs"` // or is suspended: its files are locked
	Disks     []Attached `json:"disks"`
}

// Attached is a disk in a virtual machine's hardware list.
type Attached struct {
	Label      string `json:"label"`
	Backing    string `json:"backing"`
	UUID       string `json:"uuid"`
	Capacity   int64  `json:"capacity"`
	Controller int32  `json:"controller"`
	Unit       int32  `json:"unit"`
	Profile    string `json:"profile,omitempty"`
}

// may says whether the user has the privilege.
func (v *VCenter) may(user, privilege string) bool {
	if user != v.plugin.User {
		return true
	}
	have := v.opts.Privileges
	if have == nil {
		have = PluginPrivileges()
	}
	return slices.Contains(have, privilege)
}
