// Command mooring-demo tells the whole story on virtual machines that really boot and die: the package is installed, a stack built like Harbor's gets its volumes,
// images are pushed, the host's power is cut, vSphere HA starts the machine elsewhere, the stack comes back by itself, and every image is proved.
//
// It runs in the lab (`mooring-lab run --guest qemu --vms 1 -- mooring-demo ...`), says each command that a person would type, and ends with a table of what
// was proved; anything that was not makes it exit 1. It never trusts Mooring's own word where vCenter or the bytes themselves can be asked.
// The lab takes everything down, whatever happens.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/mooring-sh/mooring/integration/demo/play"
)

func main() {
	var p parts
	flag.StringVar(&p.deb, "deb", "", "`file` with Mooring's Debian package")
	flag.StringVar(&p.harborlike, "harborlike", "", "`program` that pushes and pulls images in the machine; static")
	flag.StringVar(&p.images, "images", "", "`file` with the images of the stack, for docker load")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, p)
	stop()
	os.Exit(code)
}

// run plays the story and returns the exit code of [play.Talk.Show].
func run(ctx context.Context, p parts) int {
	t := play.New(os.Stdout)
	self, err := os.Executable()
	if err != nil {
		t.Line("mooring-demo: find Mooring's commands: " + err.Error())
		return 1
	}
	s := &story{Commands: &play.Commands{Talk: t, Bin: filepath.Dir(self), Env: os.Environ()}, parts: p}
	return t.Show(ctx, s.steps())
}
