// Command harborlike makes the stack's images and its compose project, pushes images to it, and pulls and proves all that was acknowledged. It is for
// people, and static, so that it runs in any guest.
//
// Standard output is data: the images' archive, records as lines of JSON, a verdict. It exits 3 if something that was acknowledged is not as it was.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring/integration/harborlike"
	"github.com/mooring-sh/mooring/integration/harborlike/push"
)

// errMisses is returned after the verdict has named them.
var errMisses = errors.New("not all that was acknowledged is there")

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command and returns its exit status.
func execute(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := &cobra.Command{Use: "harborlike", Short: "A stack built like Harbor's", SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(imagesCommand(), projectCommand(), pushCommand(), pullCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "harborlike:", err)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errMisses):
		return 3
	default:
		return 1
	}
}

func imagesCommand() *cobra.Command {
	var o harborlike.Options
	cmd := &cobra.Command{
		Use: "images", Short: "Make the images, unless they are in the cache, and print the archive for `docker load`", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Say = cmd.ErrOrStderr()
			archive, err := harborlike.Get(cmd.Context(), o)
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), archive)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&o.Cache, "cache", "", "directory where they are kept")
	return cmd
}

func projectCommand() *cobra.Command {
	var p harborlike.Project
	cmd := &cobra.Command{
		Use: "project DIR", Short: "Write the compose project", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return harborlike.Write(args[0], p) },
	}
	flags := cmd.Flags()
	flags.IntVar(&p.Port, "port", 80, "port that the proxy has on the machine")
	flags.StringVar(&p.Data, "data", "/data", "directory of what is on no volume")
	flags.StringVar(&p.Logs, "logs", "/var/log/harbor", "directory of the log service")
	flags.StringVar(&p.Registry, "registry-volume", "vsanvol1", "volume of the registry's storage")
	flags.StringVar(&p.Database, "database-volume", "vsanvol2", "volume of the database")
	flags.StringVar(&p.JobLogs, "job-logs-volume", "vsanvol3", "volume of the job logs")
	return cmd
}

// registryFlags adds the flags that pushing and pulling share.
func registryFlags(cmd *cobra.Command, address *string, patience *time.Duration) {
	cmd.Flags().StringVar(address, "registry", "127.0.0.1:80", "address of the proxy")
	cmd.Flags().DurationVar(patience, "patience", 30*time.Second, "how long an answer is waited for")
}

func pushCommand() *cobra.Command {
	var l push.Load
	var address string
	var patience time.Duration
	var persistent bool
	cmd := &cobra.Command{
		Use: "push", Short: "Push images and print a line of JSON for what was sent and for what was acknowledged", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			note := func(r push.Record) error { return push.WriteRecord(cmd.OutOrStdout(), r) }
			failed := func(err error) error {
				if !persistent {
					return err
				}
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), "harborlike:", err)
				return err
			}
			return push.New(address, patience).Run(cmd.Context(), l, note, failed)
		},
	}
	registryFlags(cmd, &address, &patience)
	flags := cmd.Flags()
	flags.StringVar(&l.Prefix, "prefix", "library/load-", "beginning of the repositories' names")
	flags.IntVar(&l.Pushers, "pushers", 1, "pushers at once, each with a repository of its own")
	flags.IntVar(&l.Images, "images", 1, "images of each pusher; 0: until interrupted")
	flags.IntVar(&l.Tags, "tags", 0, "tags that a repository has, moved on again and again; 0: one for each image")
	flags.IntVar(&l.Layers, "layers", 2, "layers of an image")
	flags.IntVar(&l.LayerSize, "layer-size", 1<<20, "bytes in a layer")
	flags.IntVar(&l.Rate, "rate", 0, "bytes that each pusher sends in a second; 0: as many as are taken")
	flags.Uint64Var(&l.Seed, "seed", 1, "what the bytes follow from")
	flags.BoolVar(&persistent, "persistent", false, "go on after a push that failed")
	return cmd
}

func pullCommand() *cobra.Command {
	var address string
	var patience time.Duration
	cmd := &cobra.Command{
		Use: "pull FILE", Short: "Pull and hash all that the records in FILE say was acknowledged, and print the verdict as JSON", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }() // it was only read
			records, err := push.ReadRecords(f)
			if err != nil {
				return err
			}
			verdict, err := push.New(address, patience).Check(cmd.Context(), records)
			if err != nil {
				return err
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			out.SetIndent("", "  ")
			if err := out.Encode(verdict); err != nil {
				return err
			}
			if len(verdict.Misses) > 0 {
				return errMisses
			}
			return nil
		},
	}
	registryFlags(cmd, &address, &patience)
	return cmd
}
