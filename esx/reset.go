package esx

import (
	"context"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// Reset restarts our virtual machine at once, as a press on its reset button does: the guest is not asked, what was only in its memory is lost, and the machine stays on
// its host. A machine whose instance UUID is not the given one is refused with [mooring.ErrInvalid]. The account needs the privilege VirtualMachine.Interact.Reset,
// which nothing else needs.
func (h *Host) Reset(ctx context.Context, instance string) error {
	p, err := h.place(ctx)
	if err != nil {
		return err
	}
	if got := strings.ToLower(p.vm.Config.InstanceUuid); got != instance {
		return fmt.Errorf("%s has the instance UUID %s, not %s: %w", p.vm.Name, got, instance, mooring.ErrInvalid)
	}
	res, err := methods.ResetVM_Task(ctx, p.client, &types.ResetVM_Task{This: p.vm.Self})
	if err == nil {
		_, err = h.session.wait(ctx, p.client, res.Returnval)
	}
	if fault.Is(err, &types.NoPermission{}) {
		return &mooring.HintError{
			Err: fmt.Errorf("%s: %w", p.vm.Name, explain(err)),
			Hint: "give the account's role the privilege VirtualMachine.Interact.Reset on " + p.vm.Name +
				", or reset the machine in the vSphere client: Actions, Power, Reset",
		}
	}
	return explain(err)
}
