package powercut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// command is Debian's registry.
const command = "docker-registry"

// process is a registry that runs.
type process struct {
	address string // host:port where it listens

	cmd    *exec.Cmd
	output *bytes.Buffer
	gone   chan struct{} // closed when it has ended
}

// start runs a registry whose storage is dir, and returns when it answers. Its configuration, beside the storage, is what Debian and Harbor have, as far as
// storage is concerned.
func start(ctx context.Context, dir string) (*process, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	config := dir + ".yml"
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  cache: {blobdescriptor: inmemory}\n  filesystem: {rootdirectory: %q}\n  delete: {enabled: true}\n"+
		"http: {addr: %q}\n", dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	p := &process{address: address, cmd: exec.Command(command, "serve", config), output: &bytes.Buffer{}, gone: make(chan struct{})} //nolint:noctx // it ends with stop
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start registry: %w", err)
	}
	go func() {
		defer close(p.gone)
		_ = p.cmd.Wait() // it is killed in the end
	}()
	if err := p.ready(ctx); err != nil {
		p.stop()
		return nil, fmt.Errorf("start registry: %w: %s", err, p.output)
	}
	return p, nil
}

// Serve runs a registry whose storage is dir until stop is called. It listens at host:port.
func Serve(ctx context.Context, dir string) (address string, stop func(), err error) {
	p, err := start(ctx, dir)
	if err != nil {
		return "", nil, err
	}
	return p.address, p.stop, nil
}

// freeAddress returns one on the loopback interface where nobody listens.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// ready waits until the registry answers.
func (p *process) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/v2/", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			return resp.Body.Close()
		}
		select {
		case <-tick.C:
		case <-p.gone:
			return errors.New("it has ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hold makes the registry stand still, in the middle of whatever it does, until release is called.
func (p *process) hold() (release func() error, err error) {
	if err := p.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		return nil, fmt.Errorf("hold registry: %w", err)
	}
	return func() error {
		if err := p.cmd.Process.Signal(unix.SIGCONT); err != nil {
			return fmt.Errorf("release registry: %w", err)
		}
		return nil
	}, nil
}

// stop kills the registry and waits for its end.
func (p *process) stop() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.gone
}
