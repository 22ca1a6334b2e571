package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
)

// dockerSocket is where dockerd answers, and socketEnv says where somebody else does who is asked instead.
const (
	dockerSocket = "/run/docker.sock"
	socketEnv    = "SOCKET"
)

// api asks dockerd what args say, pairs of a method and a path, after which a body may follow, and prints a line for each answer: its status and its body.
// If all must succeed, it prints nothing and ends with the first that does not. The docker command does the same, and takes seconds to start in an emulated
// processor.
func api(ctx context.Context, args []string, must bool, out io.Writer) error {
	if len(args)%2 != 0 {
		return errors.New("say pairs of a method and a path")
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cmp.Or(os.Getenv(socketEnv), dockerSocket))
	}}}
	for i := 0; i < len(args); i += 2 {
		path, content, _ := strings.Cut(args[i+1], " ")
		req, err := http.NewRequestWithContext(ctx, strings.ToUpper(args[i]), "http://docker"+path, strings.NewReader(content))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return err
		}
		if must {
			if res.StatusCode >= http.StatusBadRequest {
				return fmt.Errorf("%s %s: %s: %s", args[i], path, res.Status, bytes.TrimSpace(body))
			}
			continue
		}
		if _, err := fmt.Fprintf(out, "%d %s\n", res.StatusCode, bytes.ReplaceAll(bytes.TrimSpace(body), []byte("\n"), nil)); err != nil {
			return err
		}
	}
	return nil
}
