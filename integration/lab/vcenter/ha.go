package vcenter

import (
	"slices"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// HA is what the cluster does when hosts and machines die. Zero values are vSphere's defaults. All times are vSphere's, and pass as many times as
// fast as [Options.TimeScale] says.
type HA struct {
	Off bool // nothing is restarted

	Detect       time.Duration // from the death of a host to HA's notice; 0 means 15 s
	RestartDelay time.Duration // from the notice to the first attempt
	RetryEvery   time.Duration // from a first failed attempt to the second, twice as long to the next, and so on; 0 means 2 min
	MaxRestarts  int           // attempts that may fail; 0 means 5
	VMsPerHost   int           // that a host has room for; 0 means any number

	Isolation        time.Duration // from an isolation to the isolated host's response; 0 means 30 s
	PowerOffIsolated bool          // the response: its machines are powered off; otherwise they run on

	// Monitoring resets machines whose guests have ceased to send heartbeats. vSphere also looks whether a guest has read or written
	// anything in the last two minutes, and lets it be if so; the lab does not.
	Monitoring      bool
	MonitorInterval time.Duration // without a heartbeat, after which a guest counts as hung; 0 means 30 s
	MinUptime       time.Duration // after a start, in which no heartbeat is expected; 0 means 2 min
	MaxResets       int           // of one machine since it was powered on; 0 means 3
}

func (h HA) withDefaults() HA {
	for p, d := range map[*time.Duration]time.Duration{
		&h.Detect: 15 * time.Second, &h.RetryEvery: 2 * time.Minute, &h.Isolation: 30 * time.Second,
		&h.MonitorInterval: 30 * time.Second, &h.MinUptime: 2 * time.Minute,
	} {
		if *p == 0 {
			*p = d
		}
	}
	if h.MaxRestarts == 0 {
		h.MaxRestarts = 5
	}
	if h.MaxResets == 0 {
		h.MaxResets = 3
	}
	return h
}

// scale is how many times as fast HA's time passes.
func (v *VCenter) scale() float64 {
	if v.opts.TimeScale > 0 {
		return v.opts.TimeScale
	}
	return 1
}

// scaled returns how long d takes here.
func (c *cluster) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / c.v.scale())
}

// Override is what HA does with one machine in place of what it does with all.
type Override struct {
	RestartDisabled  bool
	Priority         string // lowest, low, medium, high, highest; empty means medium
	PowerOffIsolated bool   // as the isolation response of its host, whatever the others' is
	Unmonitored      bool   // it is not reset when its heartbeats cease
}

// SetOverride sets what HA does with the machine, in the cluster's configuration, where every client of the API sees and may change it.
func (v *VCenter) SetOverride(vm string, o Override) error {
	m, err := v.find(vm)
	if err != nil {
		return err
	}
	s := &types.ClusterDasVmSettings{
		RestartPriority:           o.Priority,
		IsolationResponse:         string(types.ClusterDasVmSettingsIsolationResponseClusterIsolationResponse),
		VmToolsMonitoringSettings: &types.ClusterVmToolsMonitoringSettings{ClusterSettings: new(!o.Unmonitored), Enabled: new(!o.Unmonitored)},
	}
	switch {
	case o.RestartDisabled:
		s.RestartPriority = string(types.ClusterDasVmSettingsRestartPriorityDisabled)
	case o.Priority == "":
		s.RestartPriority = string(types.ClusterDasVmSettingsRestartPriorityMedium)
	}
	if o.PowerOffIsolated {
		s.IsolationResponse = string(types.ClusterDasVmSettingsIsolationResponsePowerOff)
	}
	op := types.ArrayUpdateOperationAdd
	if _, ok := v.cluster.override(m.ref); ok {
		op = types.ArrayUpdateOperationRemove
	}
	specs := []types.ClusterDasVmConfigSpec{{
		ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: types.ArrayUpdateOperationAdd},
		Info:            &types.ClusterDasVmConfigInfo{Key: m.ref, DasSettings: s},
	}}
	if op == types.ArrayUpdateOperationRemove {
		specs = slices.Insert(specs, 0, types.ClusterDasVmConfigSpec{ArrayUpdateSpec: types.ArrayUpdateSpec{Operation: op, RemoveKey: m.ref}})
	}
	return asError(v.configureCluster(&types.ClusterConfigSpecEx{DasVmConfigSpec: specs}))
}

func (v *VCenter) configureCluster(spec *types.ClusterConfigSpecEx) types.BaseMethodFault {
	c, ok := v.reg.Get(v.cluster.ref).(*simulator.ClusterComputeResource)
	if !ok {
		return &types.ManagedObjectNotFound{Obj: v.cluster.ref}
	}
	body, ok := c.ReconfigureComputeResourceTask(v.context(v.admin.User), &types.ReconfigureComputeResource_Task{
		This: c.Self, Spec: spec, Modify: true,
	}).(*methods.ReconfigureComputeResource_TaskBody)
	if !ok || body.Res == nil {
		return &types.SystemError{Reason: "the simulator refused"}
	}
	return v.inner(body, body.Res.Returnval)
}

// configuration gives HA's part of the cluster's configuration to the function.
func (c *cluster) configuration(read func(*types.ClusterConfigInfoEx)) {
	obj, ok := c.v.reg.Get(c.ref).(*simulator.ClusterComputeResource)
	if !ok {
		return
	}
	c.v.reg.WithLock(c.v.context(""), obj, func() {
		if cfg, ok := obj.ConfigurationEx.(*types.ClusterConfigInfoEx); ok {
			read(cfg)
		}
	})
}

// enabled says whether HA is on.
func (c *cluster) enabled() bool {
	on := false
	c.configuration(func(cfg *types.ClusterConfigInfoEx) { on = cfg.DasConfig.Enabled != nil && *cfg.DasConfig.Enabled })
	return on
}

// override returns what the configuration says of the machine.
func (c *cluster) override(vm types.ManagedObjectReference) (types.ClusterDasVmSettings, bool) {
	var out types.ClusterDasVmSettings
	found := false
	c.configuration(func(cfg *types.ClusterConfigInfoEx) {
		for _, x := range cfg.DasVmConfig {
			if x.Key != vm {
				continue
			}
			found = true
			if x.DasSettings != nil {
				out = *x.DasSettings
			}
			if out.RestartPriority == "" {
				out.RestartPriority = string(x.RestartPriority) // the form before 2.5 of the API
			}
		}
	})
	return out, found
}

// priority returns the rank of the machine among those that are to be restarted, or false if it is not to be.
func (c *cluster) priority(vm types.ManagedObjectReference) (int, bool) {
	o, _ := c.override(vm)
	switch types.ClusterDasVmSettingsRestartPriority(o.RestartPriority) {
	case types.ClusterDasVmSettingsRestartPriorityDisabled:
		return 0, false
	case types.ClusterDasVmSettingsRestartPriorityLowest:
		return 1, true
	case types.ClusterDasVmSettingsRestartPriorityLow:
		return 2, true
	case types.ClusterDasVmSettingsRestartPriorityHigh:
		return 4, true
	case types.ClusterDasVmSettingsRestartPriorityHighest:
		return 5, true
	default:
		return 3, true
	}
}

// responds says whether the machine is powered off when its host is isolated.
func (c *cluster) responds(vm types.ManagedObjectReference) bool {
	o, _ := c.override(vm)
	switch types.ClusterDasVmSettingsIsolationResponse(o.IsolationResponse) {
	case types.ClusterDasVmSettingsIsolationResponsePowerOff:
		return true
	case types.ClusterDasVmSettingsIsolationResponseNone:
		return false
	default:
		return c.ha.PowerOffIsolated
	}
}
