package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry/layout"
	"github.com/mooring-sh/mooring/supervisor/images"
)

const verifyHelp = `Prove that the images of a registry are there: a storage in a directory, or a registry over HTTP.

  mooring images verify /data/registry
  mooring images verify registry.example.com
  mooring images verify harbor.example.com/library/*
  mooring images verify harbor.example.com/library/app

A TARGET that begins with / or . is the directory that contains docker/registry/v2; any other is a registry, perhaps with a repository. In a directory every link is read, every image's
manifest and every blob is hashed, each once. Nothing is written there. Over HTTP every image that a tag leads to is read and hashed; Harbor does not count that as a
pull. What no tag leads to cannot be seen over HTTP.

A directory is compared with the manifest that a supervisor keeps in it, if there is one; else what is there is judged by itself.
With --records DIRECTORY what was found right is recorded, as the manifest, in that directory of yours: the next verification compares with it, and one that was stopped goes on where it was.

STATE is damaged; or cut off, for what came after the manifest and is not whole: a push that died with the machine, and that nobody was told had succeeded, leaves the same;
or gone, for what is in the manifest and no longer there, without a trace of damage: deleted, or lost.

` + registryHelp + `

EXIT STATUS
  0    everything that must be there is there and right
  3    something is damaged, lost or cut off: it is listed, all of it
  10   there is no registry in the directory
  75   the registry cannot be reached, or went away
  130  interrupted: with --records, what was hashed need not be hashed again`

func newImagesVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify TARGET",
		Short: "Hash everything, and name each image that is not whole",
		Long:  verifyHelp,
		Args:  exactly("TARGET"),
	}
	output := outputFlag(cmd)
	v := &verifying{database: databaseFlag(cmd)}
	v.registry.register(cmd)
	flags := cmd.Flags()
	flags.StringVar(&v.records, "records", "", "`directory` of your own in which the manifest is kept")
	flags.BoolVar(&v.quick, "quick", false, "of a directory, hash only images' manifests and what was written since the manifest was taken")
	flags.IntVar(&v.workers, "workers", 0, "how many `files` are read, or requests are under way, at a time (default: as many as is good)")
	flags.Int64Var(&v.rate, "limit", 0, "read at most so many `megabytes` a second of a directory (default: no limit)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		began := time.Now()
		verdict, err := v.run(cmd, args[0])
		if err != nil {
			return err
		}
		if err := printVerdict(cmd.OutOrStdout(), *output, args[0], verdict, time.Since(began)); err != nil {
			return err
		}
		if verdict.Damaged() {
			return errFindings
		}
		return nil
	}
	return cmd
}

// verifying is how a target is to be verified.
type verifying struct {
	registry registryFlags
	database *databaseOf
	records  string
	quick    bool
	workers  int
	rate     int64
}

func (v *verifying) pace() layout.Pace {
	return layout.Pace{Workers: v.workers, Direct: true, BytesPerSecond: v.rate * 1e6}
}

func (v *verifying) run(cmd *cobra.Command, target string) (images.Verdict, error) {
	if v.workers < 0 || v.rate < 0 {
		return images.Verdict{}, usage(cmd, "--workers and --limit want a number of 0 or more")
	}
	show := newImagesProgress(cmd.ErrOrStderr())
	defer show.close()
	if !isDirectory(target) {
		return v.remotely(cmd, target, show)
	}
	setup := images.Setup{Storage: target, Records: v.records, Tags: v.database.tags(), LookOnly: true}
	if setup.Tags != nil { // else it would only be noted that the tags were not compared
		if _, err := setup.Tags.Mark(cmd.Context()); err != nil {
			return images.Verdict{}, interrupted(cmd.Context(), err)
		}
	}
	if v.records == "" {
		setup.Known = besideData(cmd, target)
	}
	p, err := images.NewProver(setup)
	if err != nil {
		return images.Verdict{}, err
	}
	defer func() { _ = p.Close() }()
	for _, text := range p.Last().Records {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), text)
	}
	var verdict images.Verdict
	if v.quick {
		verdict, err = p.Verify(cmd.Context(), show.show)
	} else {
		verdict, err = p.VerifyAll(cmd.Context(), v.pace(), show.show)
	}
	if err != nil {
		return verdict, hintStorage(interrupted(cmd.Context(), err))
	}
	return verdict, nil
}

// besideData returns the manifest that a supervisor keeps in the storage itself, nil if there is none.
func besideData(cmd *cobra.Command, dir string) *images.Manifest {
	m, _, err := images.ReadManifest(filepath.Join(dir, images.BesideData))
	switch {
	case errors.Is(err, mooring.ErrNotFound):
		return nil
	case err != nil:
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "the storage is judged by itself: %v\n", err)
		return nil
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "compared with the manifest in the storage, of %s\n", dateText(m.Taken()))
	return m
}

func (v *verifying) remotely(cmd *cobra.Command, target string, show *imagesProgress) (images.Verdict, error) {
	if v.quick || v.database.container != "" || v.rate > 0 {
		return images.Verdict{}, usage(cmd, "--quick, --limit and --database are for a directory: of a registry only what is read whole is proved")
	}
	name, rest := splitTarget(target)
	reg, err := v.registry.open(cmd, name)
	if err != nil {
		return images.Verdict{}, err
	}
	defer reg.Close()
	m := new(images.Manifest)
	if v.records != "" {
		if m, _, err = readManifest(cmd, []string{v.records}); err != nil {
			return images.Verdict{}, err
		}
	}
	var only []string
	if rest != "" {
		only = []string{rest}
	}
	verdict, err := images.VerifyRegistry(cmd.Context(), reg, m, only, v.workers, show.show)
	if err != nil {
		return verdict, interrupted(cmd.Context(), err)
	}
	return verdict, nil
}

// verdictView is what is printed of a verdict for scripts.
type verdictView struct {
	Target string `json:"target"`
	images.Verdict
	Took float64 `json:"took"` // seconds
}

func printVerdict(w io.Writer, f format, target string, v images.Verdict, took time.Duration) error {
	if f == jsonish {
		return printJSON(w, verdictView{Target: target, Verdict: v, Took: took.Seconds()})
	}
	if rows := verdictRows(v); len(rows) > 0 {
		if err := printRows(w, []string{"STATE", "IMAGE", "DIGEST", "LAST RIGHT", "WHAT"}, rows); err != nil {
			return err
		}
	}
	for _, note := range v.Notes {
		if _, err := fmt.Fprintf(w, "note: %s\n", cell(note)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, verdictLine(v, took))
	return err
}

// verdictRows returns a row for each thing that is not as it was.
func verdictRows(v images.Verdict) [][]string {
	var rows [][]string
	for _, f := range v.Findings {
		state := "damaged"
		if f.Unfinished {
			state = "cut off"
		}
		rows = append(rows, []string{state, imageName(f.Repository, f.Tag, f.Image.Short()), f.Digest.Short(), dateText(f.LastRight), f.Text})
	}
	slices.SortStableFunc(rows, func(a, b []string) int { return cmp.Compare(b[0], a[0]) }) // damaged, then cut off
	for _, d := range v.Gone {
		rows = append(rows, []string{"gone", imageName(d.Repository, d.Tag, d.Digest.Short()), d.Digest.Short(), "", d.Text})
	}
	return rows
}

// imageName names an image as people do; one without a tag by its digest.
func imageName(repository, tag, digest string) string {
	switch {
	case repository == "":
		return ""
	case tag != "":
		return repository + ":" + tag
	case digest != "":
		return repository + "@" + digest
	default:
		return repository
	}
}

// verdictLine says in a line what was proved.
func verdictLine(v images.Verdict, took time.Duration) string {
	line := fmt.Sprintf("%d of %d images are whole, with %d blobs of %s; %d were hashed, %s, in %s",
		v.Intact, v.Images, v.Blobs, bytesText(v.Bytes), v.Hashed, bytesText(v.HashedBytes), roughly(took))
	if n := len(v.New); n > 0 {
		line += fmt.Sprintf("; %d things are new since the manifest was taken", n)
	}
	return line
}

// roughly rounds a duration to what people want to know of it.
func roughly(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	default:
		return d.Round(time.Second)
	}
}
