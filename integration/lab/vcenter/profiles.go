package vcenter

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/pbm"
	"github.com/vmware/govmomi/pbm/methods"
	pbmsim "github.com/vmware/govmomi/pbm/simulator"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// profiles is SPBM with a memory: it knows which profile an attached disk was given, refuses names that are taken and
// rules that vSAN does not have, and places nothing where the rules cannot be kept.
type profiles struct {
	types.ManagedObjectReference
	v *VCenter

	mu   sync.Mutex
	list []*pbmtypes.PbmCapabilityProfile
}

// The managed objects of SPBM.
func profileManager() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "PbmProfileProfileManager", Value: "ProfileManager"}
}

func placementSolver() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "PbmPlacementSolver", Value: "placementSolver"}
}

func complianceManager() types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: "PbmComplianceManager", Value: "complianceManager"}
}

const (
	vsanNamespace    = "VSAN"
	defaultProfileID = "aa6d5a82-1c88-45da-85d3-3d74b91a5bad" // the same in every vCenter
)

func newProfiles(v *VCenter) *profiles {
	return &profiles{ManagedObjectReference: profileManager(), v: v, list: []*pbmtypes.PbmCapabilityProfile{defaultProfile()}}
}

// defaultProfile is the storage policy that every vSAN has.
func defaultProfile() *pbmtypes.PbmCapabilityProfile {
	var rules []pbmtypes.PbmCapabilityInstance
	for _, r := range [...]struct {
		id    string
		value any
	}{
		{"hostFailuresToTolerate", int32(1)},
		{"stripeWidth", int32(1)},
		{"forceProvisioning", false},
		{"proportionalCapacity", int32(0)},
		{"cacheReservation", int32(0)},
	} {
		rules = append(rules, pbmtypes.PbmCapabilityInstance{
			Id: pbmtypes.PbmCapabilityMetadataUniqueId{Namespace: vsanNamespace, Id: r.id},
			Constraint: []pbmtypes.PbmCapabilityConstraintInstance{{
				PropertyInstance: []pbmtypes.PbmCapabilityPropertyInstance{{Id: r.id, Value: r.value}},
			}},
		})
	}
	return &pbmtypes.PbmCapabilityProfile{
		PbmProfile: pbmtypes.PbmProfile{
			ProfileId: pbmtypes.PbmProfileId{UniqueId: defaultProfileID}, Name: "vSAN Default Storage Policy",
			Description: "Storage policy used as default for vSAN datastores", CreationTime: time.Now(), LastUpdatedTime: time.Now(),
		},
		ProfileCategory: string(pbmtypes.PbmProfileCategoryEnumREQUIREMENT),
		ResourceType:    pbmtypes.PbmProfileResourceType{ResourceType: string(pbmtypes.PbmProfileResourceTypeEnumSTORAGE)},
		Constraints: &pbmtypes.PbmCapabilitySubProfileConstraints{
			SubProfiles: []pbmtypes.PbmCapabilitySubProfile{{Name: "VSAN sub-profile", Capability: rules}},
		},
		IsDefault: true, SystemCreatedProfileType: string(pbmtypes.PbmSystemCreatedProfileTypeVsanDefaultProfile),
	}
}

// registry returns the SDK of SPBM. It is put together here, because vcsim's own constructor writes to profiles that all
// simulators of a process share.
func (p *profiles) registry() *simulator.Registry {
	r := simulator.NewRegistry()
	r.Namespace, r.Path, r.Cookie = pbm.Namespace, pbm.Path, simulator.SOAPCookie
	r.Put(&pbmsim.ServiceInstance{ManagedObjectReference: pbm.ServiceInstance, Content: pbmtypes.PbmServiceInstanceContent{
		AboutInfo:                 pbmtypes.PbmAboutInfo{Name: "PBM", Version: "2.0", InstanceUuid: newUUID()},
		SessionManager:            types.ManagedObjectReference{Type: "PbmSessionManager", Value: "SessionManager"},
		CapabilityMetadataManager: types.ManagedObjectReference{Type: "PbmCapabilityMetadataManager", Value: "CapabilityMetadataManager"},
		ProfileManager:            profileManager(),
		ComplianceManager:         complianceManager(),
		PlacementSolver:           placementSolver(),
	}})
	if p.v.opts.Plain {
		r.Put(&pbmsim.ProfileManager{ManagedObjectReference: profileManager()})
		r.Put(&pbmsim.PlacementSolver{ManagedObjectReference: placementSolver()})
		return r
	}
	r.Put(p)
	r.Put(&placement{ManagedObjectReference: placementSolver(), p: p})
	r.Put(&compliance{ManagedObjectReference: complianceManager(), p: p})
	r.Handler = func(ctx *simulator.Context, m *simulator.Method) (mo.Reference, types.BaseMethodFault) {
		p.v.counts.called(m.Name)
		if ctx.Session != nil {
			if fault := p.v.allowed(ctx.Session.UserName, m); fault != nil {
				return nil, fault
			}
		}
		p.v.faults.delay(p.v.context(""), m.Name)
		return nil, p.v.faults.next(m.Name)
	}
	return r
}

// find returns the profile with that ID, or nil. The caller holds p.mu.
func (p *profiles) find(id string) *pbmtypes.PbmCapabilityProfile {
	i := slices.IndexFunc(p.list, func(c *pbmtypes.PbmCapabilityProfile) bool { return c.ProfileId.UniqueId == id })
	if i < 0 {
		return nil
	}
	return p.list[i]
}

// PbmCreate makes a profile, if its name is free and vSAN has its rules.
func (p *profiles) PbmCreate(ctx *simulator.Context, req *pbmtypes.PbmCreate) soap.HasFault {
	body := new(methods.PbmCreateBody)
	p.mu.Lock()
	defer p.mu.Unlock()
	spec := req.CreateSpec
	if slices.ContainsFunc(p.list, func(c *pbmtypes.PbmCapabilityProfile) bool { return c.Name == spec.Name }) {
		body.Fault_ = simulator.Fault("The name '"+spec.Name+"' already exists.", &pbmtypes.PbmDuplicateName{Name: spec.Name})
		return body
	}
	if fault := checkRules(spec.Constraints); fault != nil || spec.Name == "" {
		if fault == nil {
			fault = &types.InvalidArgument{InvalidProperty: "createSpec.name"}
		}
		body.Fault_ = simulator.Fault(describe(fault), fault)
		return body
	}
	now := time.Now()
	c := &pbmtypes.PbmCapabilityProfile{
		PbmProfile: pbmtypes.PbmProfile{
			ProfileId: pbmtypes.PbmProfileId{UniqueId: newUUID()},
			Name:      spec.Name, Description: spec.Description,
			CreationTime: now, CreatedBy: ctx.Session.UserName, LastUpdatedTime: now, LastUpdatedBy: ctx.Session.UserName,
		},
		ProfileCategory: spec.Category, ResourceType: spec.ResourceType, Constraints: spec.Constraints,
	}
	if c.ProfileCategory == "" {
		c.ProfileCategory = string(pbmtypes.PbmProfileCategoryEnumREQUIREMENT)
	}
	p.list = append(p.list, c)
	body.Res = &pbmtypes.PbmCreateResponse{Returnval: c.ProfileId}
	return body
}

// PbmDelete deletes profiles and reports, for each that it cannot, why.
func (p *profiles) PbmDelete(req *pbmtypes.PbmDelete) soap.HasFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	res := new(pbmtypes.PbmDeleteResponse)
	for _, id := range req.ProfileId {
		if p.find(id.UniqueId) == nil {
			res.Returnval = append(res.Returnval, pbmtypes.PbmProfileOperationOutcome{ProfileId: id, Fault: &types.LocalizedMethodFault{
				Fault: &pbmtypes.PbmFaultNotFound{}, LocalizedMessage: "profile not found",
			}})
			continue
		}
		p.list = slices.DeleteFunc(p.list, func(c *pbmtypes.PbmCapabilityProfile) bool { return c.ProfileId == id })
	}
	return &methods.PbmDeleteBody{Res: res}
}

// PbmQueryProfile lists the IDs of profiles of a kind.
func (p *profiles) PbmQueryProfile(req *pbmtypes.PbmQueryProfile) soap.HasFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	res := new(pbmtypes.PbmQueryProfileResponse)
	for _, c := range p.list {
		if c.ResourceType == req.ResourceType && (req.ProfileCategory == "" || c.ProfileCategory == req.ProfileCategory) {
			res.Returnval = append(res.Returnval, c.ProfileId)
		}
	}
	return &methods.PbmQueryProfileBody{Res: res}
}

// PbmQueryProfileDetails lists profiles.
func (p *profiles) PbmQueryProfileDetails(req *pbmtypes.PbmQueryProfileDetails) soap.HasFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	res := new(pbmtypes.PbmQueryProfileDetailsResponse)
	for _, c := range p.list {
		if req.ProfileCategory == "" || c.ProfileCategory == req.ProfileCategory {
			res.Returnval = append(res.Returnval, pbmtypes.PbmProfileDetails{Profile: c})
		}
	}
	return &methods.PbmQueryProfileDetailsBody{Res: res}
}

// PbmRetrieveContent returns profiles by ID.
func (p *profiles) PbmRetrieveContent(req *pbmtypes.PbmRetrieveContent) soap.HasFault {
	body := new(methods.PbmRetrieveContentBody)
	p.mu.Lock()
	defer p.mu.Unlock()
	res := new(pbmtypes.PbmRetrieveContentResponse)
	for _, id := range req.ProfileIds {
		c := p.find(id.UniqueId)
		if c == nil {
			body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "profileIds"})
			return body
		}
		res.Returnval = append(res.Returnval, c)
	}
	if len(req.ProfileIds) == 0 {
		body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "profileIds"})
		return body
	}
	body.Res = res
	return body
}

// entity returns the attached disk that SPBM names "vm-12:2001".
func entity(ref pbmtypes.PbmServerObjectRef) (association, bool) {
	if ref.ObjectType != string(pbmtypes.PbmObjectTypeVirtualDiskId) {
		return association{}, false
	}
	vm, key, ok := strings.Cut(ref.Key, ":")
	if !ok {
		return association{}, false
	}
	a := association{vm: types.ManagedObjectReference{Type: "VirtualMachine", Value: vm}}
	_, err := fmt.Sscanf(key, "%d", &a.key)
	return a, err == nil
}

// associated returns the profile of an attached disk, or a fault if there is no such disk.
func (p *profiles) associated(ref pbmtypes.PbmServerObjectRef) (id, uuid string, fault types.BaseMethodFault) {
	a, ok := entity(ref)
	if !ok {
		return "", "", nil // a machine's home, or a kind of entity that has no profile in the lab
	}
	m, ok := p.v.look(a.vm)
	if !ok {
		return "", "", new(pbmtypes.PbmFaultNotFound)
	}
	for _, d := range disks(m.devices) {
		if d.Key != a.key {
			continue
		}
		if flat, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			uuid = flat.Uuid
		}
		p.v.hw.Lock()
		defer p.v.hw.Unlock()
		return p.v.attached[a], uuid, nil
	}
	return "", "", new(pbmtypes.PbmFaultNotFound)
}

// PbmQueryAssociatedProfile returns the profile of one attached disk.
func (p *profiles) PbmQueryAssociatedProfile(req *pbmtypes.PbmQueryAssociatedProfile) soap.HasFault {
	body := new(methods.PbmQueryAssociatedProfileBody)
	id, _, fault := p.associated(req.Entity)
	if fault != nil {
		body.Fault_ = simulator.Fault("", fault)
		return body
	}
	body.Res = new(pbmtypes.PbmQueryAssociatedProfileResponse)
	if id != "" {
		body.Res.Returnval = []pbmtypes.PbmProfileId{{UniqueId: id}}
	}
	return body
}

// PbmQueryAssociatedProfiles returns the profiles of attached disks.
func (p *profiles) PbmQueryAssociatedProfiles(req *pbmtypes.PbmQueryAssociatedProfiles) soap.HasFault {
	res := new(pbmtypes.PbmQueryAssociatedProfilesResponse)
	for _, e := range req.Entities {
		r := pbmtypes.PbmQueryProfileResult{Object: e}
		id, _, fault := p.associated(e)
		if fault != nil {
			r.Fault = &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: describe(fault)}
		}
		if id != "" {
			r.ProfileId = []pbmtypes.PbmProfileId{{UniqueId: id}}
		}
		res.Returnval = append(res.Returnval, r)
	}
	return &methods.PbmQueryAssociatedProfilesBody{Res: res}
}

// sortMachines orders the machines by name.
func sortMachines(m []Machine) {
	sort.Slice(m, func(i, j int) bool { return m[i].Name < m[j].Name })
}
