package esx_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mooring-sh/mooring"
)

// A drill resets our machine: asked once, only if it is the machine that the ledger means, and with the cure where the account may not.
func TestResetIsOfOurMachine(t *testing.T) {
	v := newVCSim(t)
	h := newHost(t, v)
	instance := strings.ToLower(v.vm.Config.InstanceUuid)
	if err := h.Reset(t.Context(), "another"); !errors.Is(err, mooring.ErrInvalid) || v.count("ResetVM_Task") != 0 {
		t.Errorf("another machine: got %v, %d calls, want ErrInvalid and none", err, v.count("ResetVM_Task"))
	}
	var asked []string
	v.refuse(func(method string, body any) types.BaseMethodFault {
		if req, ok := body.(*types.ResetVM_Task); ok {
			asked = append(asked, req.This.Value)
		}
		return nil
	})
	if err := h.Reset(t.Context(), instance); err != nil || len(asked) != 1 || asked[0] != v.vm.Self.Value {
		t.Errorf("got %v, asked for %v, want a reset of %s", err, asked, v.vm.Self.Value)
	}
	v.refuse(func(method string, _ any) types.BaseMethodFault {
		if method != "ResetVM_Task" {
			return nil
		}
		return &types.NoPermission{Object: &v.vm.Self, PrivilegeId: "VirtualMachine.Interact.Reset"}
	})
	err := h.Reset(t.Context(), instance)
	hint, ok := errors.AsType[*mooring.HintError](err)
	if !errors.Is(err, mooring.ErrInvalid) || !strings.Contains(err.Error(), "lacks the privilege VirtualMachine.Interact.Reset") || !ok || !strings.Contains(hint.Hint, v.vm.Name) {
		t.Errorf("may not: got %v, want the privilege and the cure", err)
	}
}
