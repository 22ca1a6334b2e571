package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// dockerSocket is where dockerd answers.
const dockerSocket = "/run/docker.sock"

// api asks dockerd what args say, pairs of a method and a path, and prints a line for each answer: its status and its body. The docker command does the
// same, and takes seconds to start in an emulated processor.
func api(ctx context.Context, args []string, out io.Writer) error {
	if len(args)%2 != 0 {
		return errors.New("say pairs of a method and a path")
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", dockerSocket)
	}}}
	for i := 0; i < len(args); i += 2 {
		req, err := http.NewRequestWithContext(ctx, strings.ToUpper(args[i]), "http://docker"+args[i+1], nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%d %s\n", res.StatusCode, bytes.ReplaceAll(bytes.TrimSpace(body), []byte("\n"), nil)); err != nil {
			return err
		}
	}
	return nil
}
