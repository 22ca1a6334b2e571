package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/supervisor/images"
)

const repairHelp = `Verify the registry's storage in DIRECTORY, and put right what can be proved:

A blob, or an image's manifest, that is lost or damaged is fetched by its digest from another registry, hashed while it comes, put in place durably, and read back. What was in its place
is moved to docker/registry/mooring-aside; nothing is ever deleted. A damaged blob that no image needs is moved there, too.
Links to blobs and images are made anew where the image that needs them proves what they said.
A tag whose link is lost or says nothing is what was pushed last under it, of what is right.

Which of two images a tag should name is not decided here, nor is anything made up that no registry has.

--from REGISTRY names the other registry: with a prefix, its repositories are those of this one with the prefix before them.

  mooring images repair /data/registry --from harbor2.example.com
  mooring images repair /data/registry --from backup.example.com/mirror

A registry remembers blobs, and goes on to believe what it remembers. --flush COMMAND has a shell run the command that makes it forget, after blobs were moved aside: for Harbor
docker exec redis redis-cli -n 1 FLUSHDB. A registry that remembers in its own memory has to be started again.

` + registryHelp + `

EXIT STATUS
  0    everything is right now
  3    something could not be repaired: it is listed, with why
  10   there is no registry in the directory
  130  interrupted: what was repaired is repaired, and the rest is as it was`

func newImagesRepair() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repair DIRECTORY",
		Short: "Fetch what is damaged from another registry, and make links anew",
		Long:  repairHelp,
		Args:  exactly("DIRECTORY"),
	}
	output := outputFlag(cmd)
	r := &repairing{}
	r.registry.register(cmd)
	cmd.Flags().StringVar(&r.from, "from", "", "`registry` to fetch blobs from, perhaps with a prefix of repositories; none: only links are made anew")
	cmd.Flags().StringVar(&r.flush, "flush", "", "`command` that makes the registry forget what it remembers of its blobs")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		outcomes, v, err := r.run(cmd, args[0])
		if v.At.IsZero() && err != nil { // nothing was looked at
			return err
		}
		if err := errors.Join(err, printOutcomes(cmd.OutOrStdout(), *output, args[0], outcomes, v)); err != nil {
			return interrupted(cmd.Context(), err)
		}
		if r.flush == "" && slices.ContainsFunc(outcomes, func(o images.Outcome) bool { return o.Repaired }) {
			_, _ = io.WriteString(cmd.ErrOrStderr(), "the registry may remember blobs as they were: start it again, or flush its cache (--flush)\n")
		}
		if v.Damaged() {
			return errFindings
		}
		return nil
	}
	return cmd
}

// repairing is how a storage is to be repaired.
type repairing struct {
	registry    registryFlags
	from, flush string
}

func (r *repairing) run(cmd *cobra.Command, dir string) ([]images.Outcome, images.Verdict, error) {
	storage, err := layout.Open(dir)
	if err != nil {
		return nil, images.Verdict{}, hintStorage(err)
	}
	show := newImagesProgress(cmd.ErrOrStderr())
	defer show.close()
	repair := &images.Repair{Storage: storage, Show: func(text string) {
		show.close()
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s  %s\n", offset(time.Since(show.began)), cell(text))
	}}
	if r.from != "" {
		name, prefix := splitTarget(r.from)
		reg, err := r.registry.open(cmd, name)
		if err != nil {
			return nil, images.Verdict{}, err
		}
		defer reg.Close()
		repair.From = reg
		if prefix != "" {
			repair.Prefix = prefix + "/"
		}
	}
	if r.flush != "" {
		repair.Caches = flushing(r.flush)
	}
	return images.RepairAll(cmd.Context(), repair, layout.Pace{Direct: true}, show.show)
}

// flushing is a command that makes a registry forget.
type flushing string

// Flush runs it.
func (f flushing) Flush(ctx context.Context) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", string(f))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", string(f), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// repairView is what is printed of a repair for scripts.
type repairView struct {
	Target   string           `json:"target"`
	Outcomes []images.Outcome `json:"outcomes"`
	images.Verdict
}

func printOutcomes(w io.Writer, f format, target string, outcomes []images.Outcome, v images.Verdict) error {
	if f == jsonish {
		if outcomes == nil {
			outcomes = []images.Outcome{}
		}
		return printJSON(w, repairView{Target: target, Outcomes: outcomes, Verdict: v})
	}
	rows := make([][]string, 0, len(outcomes))
	for _, o := range outcomes {
		state := "left"
		if o.Repaired {
			state = "repaired"
		}
		rows = append(rows, []string{state, imageName(o.Finding.Repository, o.Finding.Tag, o.Finding.Image.Short()), o.Finding.Digest.Short(), o.Finding.Text, o.Text})
	}
	if len(rows) > 0 {
		if err := printRows(w, []string{"STATE", "IMAGE", "DIGEST", "WHAT WAS WRONG", "WHAT WAS DONE"}, rows); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d of %d images are whole\n", v.Intact, v.Images)
	return err
}
