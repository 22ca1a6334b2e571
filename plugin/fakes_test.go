package plugin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
	"github.com/mooring-sh/mooring/internal/guest"
	"github.com/mooring-sh/mooring/internal/ledger"
	"github.com/mooring-sh/mooring/plugin"
)

const mountDir = "/mnt"

// disk is a virtual disk of the fake world.
type disk struct {
	vol       mooring.Volume
	formatted int    // how often
	owner     string // another machine that has it
	attached  bool   // to ours
	mounted   bool
	open      bool // some other mount namespace has it
}

// world is a vSphere and a guest with the rules that matter to the driver: it refuses what they refuse, and records a violation
// when a disk is pulled from under somebody.
type world struct {
	mu         sync.Mutex
	disks      map[mooring.Name]*disk
	down       bool          // vCenter
	answering  chan struct{} // Docker's answer takes until it is closed
	linger     time.Duration // how long Attach waits for a disk that another machine has
	instance   string
	machineErr error
	unsettled  bool // devices are still on their way
	calls      map[string]int
	opening    chan struct{} // if set, Open waits until it is closed
	closeErr   error
	openErr    map[mooring.Name]error
	running    map[mooring.Name][]string
	dockerDown bool
	dead       []ledger.Instance // daemons that no longer run
	off        map[string]bool   // machines that are powered off
	fenced     bool              // the disks' files are locked, by nobody in view
	hang       chan struct{}     // if set, vCenter answers nothing until it is closed
	violations []string
}

func newWorld() *world {
	return &world{disks: make(map[mooring.Name]*disk), calls: make(map[string]int), openErr: make(map[mooring.Name]error)}
}

// call is one request of vCenter. The caller has the lock, which a vCenter that hangs does not keep.
func (w *world) call(what string) error {
	w.calls[what]++
	if hang := w.hang; hang != nil {
		w.mu.Unlock()
		<-hang
		w.mu.Lock()
	}
	if w.down {
		return fmt.Errorf("%s: vCenter: %w", what, mooring.ErrUnavailable)
	}
	return nil
}

func (w *world) Create(_ context.Context, spec mooring.Spec, _ mooring.Given) (mooring.Volume, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("create"); err != nil {
		return mooring.Volume{}, err
	}
	if d := w.disks[spec.Name]; d != nil {
		return d.vol, nil
	}
	id := mooring.DiskID(fmt.Sprintf("6000c29a-0000-0000-0000-%012x", len(w.disks)+1))
	vol := mooring.Volume{Spec: spec, Disk: id, Backing: mooring.NewBacking("ds", "dockvols/default/"+string(spec.Name)+".vmdk"), FSUUID: "11111111-2222-4333-8444-555555555555", Format: mooring.FormatNone}
	w.disks[spec.Name] = &disk{vol: vol}
	return vol, nil
}

func (w *world) Find(_ context.Context, name mooring.Name) (mooring.Volume, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("find"); err != nil {
		return mooring.Volume{}, err
	}
	if d := w.disks[name]; d != nil {
		return d.vol, nil
	}
	return mooring.Volume{}, mooring.ErrNotFound
}

func (w *world) Names(context.Context) ([]mooring.Name, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("names"); err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(w.disks)), nil
}

func (w *world) Delete(_ context.Context, vol mooring.Volume) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("delete"); err != nil {
		return err
	}
	if d := w.disks[vol.Name]; d != nil && (d.attached || d.owner != "") {
		return fmt.Errorf("attached to %s: %w", d.owner, mooring.ErrInUse)
	}
	delete(w.disks, vol.Name)
	return nil
}

func (w *world) SetFormat(_ context.Context, vol mooring.Volume, f mooring.Format) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("set format"); err != nil {
		return err
	}
	w.disks[vol.Name].vol.Format = f
	return nil
}

// Attach waits for a disk of another machine's as long as linger says.
func (w *world) Attach(ctx context.Context, vol mooring.Volume) error {
	err := w.Reattach(ctx, vol)
	for end := time.Now().Add(w.linger); errors.Is(err, mooring.ErrInUse) && time.Now().Before(end); {
		select {
		case <-time.After(time.Second):
			err = w.Reattach(ctx, vol)
		case <-ctx.Done():
			return err
		}
	}
	return err
}

func (w *world) Reattach(_ context.Context, vol mooring.Volume) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("attach"); err != nil {
		return err
	}
	d := w.disks[vol.Name]
	switch {
	case d == nil:
		return mooring.ErrNotFound
	case d.owner != "":
		return fmt.Errorf("attached to %s: %w", d.owner, mooring.ErrInUse)
	case w.fenced:
		return fmt.Errorf("file is locked: %w", mooring.ErrFenced)
	}
	if d.vol.Disk != vol.Disk {
		return fmt.Errorf("holds the disk %s, not %s: %w", d.vol.Disk, vol.Disk, mooring.ErrCorrupt)
	}
	d.attached = true
	return nil
}

func (w *world) Detach(_ context.Context, vols ...mooring.Volume) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("detach"); err != nil {
		return err
	}
	for _, vol := range vols {
		d := w.disks[vol.Name]
		if d == nil {
			continue
		}
		if d.mounted || d.open {
			w.violations = append(w.violations, "detached while in use: "+string(vol.Name))
		}
		d.attached = false
	}
	return nil
}

func (w *world) Release(_ context.Context, vol mooring.Volume, from string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("release"); err != nil {
		return false, err
	}
	d := w.disks[vol.Name]
	switch {
	case d.owner != from:
		return false, nil
	case !w.off[from]:
		return false, &mooring.HintError{Err: fmt.Errorf("%s may still write: %w", from, mooring.ErrInUse), Hint: "power it off"}
	}
	d.owner = ""
	return true, nil
}

func (w *world) Reset(_ context.Context, instance string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("reset"); err != nil {
		return err
	}
	if instance != w.instance {
		return fmt.Errorf("this machine is %s, not %s: %w", w.instance, instance, mooring.ErrInvalid)
	}
	return nil
}

func (w *world) isDead(i ledger.Instance) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.dead, i)
}

func (w *world) Machine(context.Context) (mooring.Machine, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.call("machine"); err != nil {
		return mooring.Machine{}, err
	}
	if w.machineErr != nil {
		return mooring.Machine{}, w.machineErr
	}
	m := mooring.Machine{Name: "docker1", Instance: w.instance}
	for _, d := range w.disks {
		if d.attached {
			m.Disks = append(m.Disks, mooring.Attachment{Disk: d.vol.Disk, Backing: d.vol.Backing, Policy: d.vol.Policy, Compliance: "compliant"})
		}
	}
	return m, nil
}

func (w *world) Open(ctx context.Context, vol mooring.Volume, formatted bool, j guest.Journal) (guest.Opened, error) {
	w.mu.Lock()
	w.calls["open"]++
	wait, fail := w.opening, w.openErr[vol.Name]
	d := w.disks[vol.Name]
	w.mu.Unlock()
	j.Progress("checking", 30)
	if wait != nil {
		<-wait
	}
	if fail != nil {
		return guest.Opened{}, fail
	}
	if d == nil || !d.attached {
		return guest.Opened{}, errors.New("no device")
	}
	if d.formatted > 0 && vol.Format == mooring.FormatNone {
		w.set(func() {
			w.violations = append(w.violations, "mkfs was allowed on a volume with data: "+string(vol.Name))
		})
	}
	if d.formatted == 0 {
		if vol.Format != mooring.FormatNone || formatted {
			return guest.Opened{}, fmt.Errorf("nothing found on a volume that was formatted: %w", mooring.ErrCorrupt)
		}
		if err := errors.Join(j.SetFormat(ctx, mooring.Formatting), j.SetFormat(ctx, mooring.FormatDone)); err != nil {
			return guest.Opened{}, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.formatted == 0 {
		d.formatted++
	}
	d.mounted = true
	return guest.Opened{Dir: mountDir + "/" + string(vol.Name) + "/data"}, nil
}

func (w *world) Close(vol mooring.Volume) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls["close"]++
	if w.closeErr != nil {
		return w.closeErr
	}
	if d := w.disks[vol.Name]; d != nil {
		d.mounted = false
	}
	return nil
}

func (w *world) Forget(mooring.Name) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls["forget"]++
	return nil
}

func (w *world) Present() ([]mooring.DiskID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls["present"]++
	var ids []mooring.DiskID
	for _, d := range w.disks {
		if d.attached {
			ids = append(ids, d.vol.Disk)
		}
	}
	return ids, nil
}

func (w *world) Sees(id mooring.DiskID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.disks {
		if d.attached && d.vol.Disk == id {
			return true
		}
	}
	return false
}

func (w *world) Settled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.unsettled
}

func (w *world) Mounted(names ...mooring.Name) (map[mooring.Name]guest.Mount, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ms := make(map[mooring.Name]guest.Mount)
	for name, d := range w.disks {
		if d.mounted && (len(names) == 0 || slices.Contains(names, name)) {
			ms[name] = guest.Mount{Dir: mountDir + "/" + string(name), Disk: d.vol.Disk}
		}
	}
	return ms, nil
}

func (w *world) Hold(id mooring.DiskID) (io.Closer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.disks {
		if d.vol.Disk == id && (d.mounted || d.open) {
			return nil, fmt.Errorf("device of %s: %w", d.vol.Name, mooring.ErrInUse)
		}
	}
	return io.NopCloser(nil), nil
}

// Running answers when it may, with what was so when it was asked.
func (w *world) Running(context.Context) (map[mooring.Name][]string, error) {
	w.mu.Lock()
	w.calls["running"]++
	down, running, wait := w.dockerDown, w.running, w.answering
	w.mu.Unlock()
	if wait != nil {
		<-wait
	}
	if down {
		return nil, mooring.ErrUnavailable
	}
	return running, nil
}

// set changes the world.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) count(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[what]
}

func (w *world) disk(name mooring.Name) disk {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.disks[name]; d != nil {
		return *d
	}
	return disk{}
}

// rig is a driver in a world, with a real ledger.
type rig struct {
	*plugin.Driver

	world  *world
	ledger *ledger.Ledger
	log    *lines
}

// lines is a log, of which tests count the lines that people see by default.
type lines struct {
	mu  sync.Mutex
	all []string
}

// Write is called with one line at a time.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(b))
	return len(b), nil
}

// count returns how many lines have all those parts.
func (l *lines) count(parts ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.all {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			n++
		}
	}
	return n
}

func newRig(t *testing.T, w *world, dir string, change ...func(*plugin.Settings)) *rig {
	t.Helper()
	led, err := ledger.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = led.Close() })
	s := plugin.Settings{Boot: "boot-1", Linger: 10 * time.Second, BootLinger: 2 * time.Minute, Refresh: 30 * time.Second}
	for _, c := range change {
		c(&s)
	}
	log := new(lines)
	d := plugin.New(plugin.Parts{
		Disks: w, Sidecars: w, Attacher: w, Releaser: w, Resetter: w, Guest: w, Devices: w, Containers: w, Ledger: led, Log: slog.New(slog.NewTextHandler(log, nil)),
		Alive: func(i ledger.Instance) bool { return i != ledger.Instance{} && !w.isDead(i) },
	}, s)
	return &rig{Driver: d, world: w, ledger: led, log: log}
}

// create makes a volume with the defaults.
func (r *rig) create(t *testing.T, name mooring.Name) {
	t.Helper()
	spec, given, err := plugin.ParseOptions(string(name), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Create(t.Context(), spec, given); err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
}

func (r *rig) mount(t *testing.T, name mooring.Name, id mooring.MountID, from ledger.Instance) {
	t.Helper()
	dir, err := r.Mount(t.Context(), name, id, from)
	if err != nil {
		t.Fatalf("mount %s: %v", name, err)
	}
	if want := mountDir + "/" + string(name) + "/data"; dir != want {
		t.Errorf("mount %s: got %s, want %s", name, dir, want)
	}
}

// unmount lets c1 go.
func (r *rig) unmount(t *testing.T, name mooring.Name) {
	t.Helper()
	if err := r.Unmount(t.Context(), name, "c1"); err != nil {
		t.Fatalf("unmount %s: %v", name, err)
	}
}

func (r *rig) holders(t *testing.T, name mooring.Name) []ledger.Holder {
	t.Helper()
	rec, err := r.ledger.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Holders
}

// run starts the driver's clocks; the function that it returns stops them and looks for violations.
func (r *rig) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		<-done
		if len(r.world.violations) > 0 {
			t.Errorf("violations: %v", r.world.violations)
		}
	}
}

// conditions returns the codes that the admin socket's status lists.
func (r *rig) conditions(t *testing.T) []string {
	t.Helper()
	rec := httptest.NewRecorder()
	r.AdminHandler(plugin.About{}).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, admin.StatusPath, nil))
	var st admin.Status
	if err := json.Unmarshal(rec.Body.Bytes(), &st); err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, c := range st.Conditions {
		if c.Retried {
			c.Code += " retried"
		}
		codes = append(codes, c.Code)
	}
	return codes
}

// pass lets time pass in a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }
