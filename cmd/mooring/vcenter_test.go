package main_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
	_ "github.com/vmware/govmomi/pbm/simulator" //nolint:depguard // the scripts need a vCenter; only the test binary links one
	"github.com/vmware/govmomi/simulator"       //nolint:depguard // as above
)

const (
	vcenterUser     = "administrator@vsphere.local"
	vcenterPassword = "hunter2/#?" // as no URL can hold it
)

// startVCenter gives the script a vCenter of its own over TLS, its certificate in ca.pem, and the variables that an administrator sets:
// vcenter. It knows one user, and refuses others as vCenter does. govmomi's simulators share profiles without a lock, so that a
// script waits for the end of the one before.
func startVCenter(turn *sync.Mutex) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) != 0 || neg {
			ts.Fatalf("usage: vcenter")
		}
		turn.Lock()
		ts.Defer(turn.Unlock)
		serveVCenter(ts)
	}
}

func serveVCenter(ts *testscript.TestScript) {
	model := simulator.VPX()
	model.Host, model.Machine = 0, 0
	ts.Check(model.Create())
	model.Service.RegisterEndpoints = true
	model.Service.TLS = new(tls.Config)
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(vcenterUser, vcenterPassword)}
	server := model.Service.NewServer()
	ts.Defer(func() {
		server.Close()
		model.Remove()
	})

	certificate := server.TLS.Certificates[0].Certificate[0]
	authority := ts.MkAbs("ca.pem")
	ts.Check(os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600))
	ts.Setenv("GOVC_URL", server.URL.Host)
	ts.Setenv("GOVC_USERNAME", vcenterUser)
	ts.Setenv("GOVC_PASSWORD", vcenterPassword)
	ts.Setenv("GOVC_TLS_CA_CERTS", authority)
	ts.Setenv("THUMBPRINT", fmt.Sprintf("%X", sha256.Sum256(certificate)))
}
