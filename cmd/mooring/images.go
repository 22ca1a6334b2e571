package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/supervisor/images"
)

// supervisorRecords is where the supervisor keeps the manifest, unless its configuration says otherwise.
const supervisorRecords = "/var/lib/mooring/supervisor/manifest"

func newImages() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "images",
		Short: "Prove that a registry's images are there, and repair them",
		Long: `Prove that a registry's images are there, byte for byte, and repair them.

The manifest is Mooring's own record of what must be there: repositories, tags, images' manifests and blobs, with digests and sizes. The supervisor keeps
it while all is well. A verification compares what is there with it, and hashes; without a manifest, as on a laptop, what is there is judged by itself.

Neither vSphere nor Docker is needed, nor any configuration.`,
	})
	cmd.AddCommand(newImagesList(), newImagesManifest(), newImagesVerify(), newImagesRepair())
	return cmd
}

// recordsFlag gives cmd the flag that says where a manifest is read.
func recordsFlag(cmd *cobra.Command) *[]string {
	return cmd.Flags().StringArray("records", []string{supervisorRecords}, "a `directory` in which the manifest is kept; may be given for each of several")
}

// readManifest reads the manifest, and tells of what is wrong with its records.
func readManifest(cmd *cobra.Command, dirs []string) (*images.Manifest, []error, error) {
	m, damage, err := images.ReadManifest(dirs...)
	if err != nil {
		return nil, damage, &mooring.HintError{Err: err, Hint: "the supervisor keeps it in " + supervisorRecords + ", readable by root; --records names another"}
	}
	for _, d := range damage {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%v\n", d)
	}
	if m.Behind() {
		_, _ = io.WriteString(cmd.ErrOrStderr(), "the newest manifest is lost: this is an older one\n")
	}
	return m, damage, nil
}

func newImagesList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [DIRECTORY]",
		Short: "List the images that must be there",
		Long: `List the images that must be there, as the manifest has them; with a DIRECTORY that contains docker/registry/v2, those that are in that storage.

An image comes once for each of its tags. Those without a tag come last; the parts of an index that has a tag are not listed.
VERIFIED is when the last of its blobs was hashed of which that is the longest time ago; a dash if one never was.`,
		Args: cobra.MaximumNArgs(1),
	}
	output := outputFlag(cmd)
	records := recordsFlag(cmd)
	database := databaseFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		entries := []images.Entry{}
		if len(args) == 0 {
			m, _, err := readManifest(cmd, *records)
			if err != nil {
				return err
			}
			for e := range m.Entries() {
				entries = append(entries, e)
			}
			return printEntries(cmd.OutOrStdout(), *output, entries)
		}
		p, err := images.NewProver(images.Setup{Storage: args[0], Tags: database.tags(), LookOnly: true})
		if err != nil {
			return err
		}
		v, err := p.Refresh(cmd.Context())
		if err != nil {
			return hintStorage(err)
		}
		if v.Damaged() {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "not all is right with them: mooring images verify %s\n", args[0])
		}
		return printEntries(cmd.OutOrStdout(), *output, p.Entries())
	}
	return cmd
}

func printEntries(w io.Writer, f format, entries []images.Entry) error {
	if f == jsonish {
		return printJSON(w, struct {
			Images []images.Entry `json:"images"`
		}{entries})
	}
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = []string{e.Repository, e.Tag, e.Digest.Short(), e.Media, bytesText(e.Bytes), dateText(e.Moved), dateText(e.Verified)}
	}
	return printRows(w, []string{"REPOSITORY", "TAG", "IMAGE", "TYPE", "SIZE", "PUSHED", "VERIFIED"}, rows)
}

func newImagesManifest() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "manifest",
		Short: "Show what the manifest has, of when it is, and whether its records are whole",
		Long: `Show what the manifest has, of when it is, and whether its records are whole.

EXIT STATUS
  0   it can be read, and nothing is wrong with its records
  3   it can be read, and something is damaged, in one place or in an older generation
  10  none was ever written
  16  nothing of it can be read: a verification then judges the storage by itself`,
		Args: exactly(),
	}
	output := outputFlag(cmd)
	records := recordsFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		m, damage, err := readManifest(cmd, *records)
		if err != nil {
			return err
		}
		shown := manifestView{Records: *records, Count: m.Count(), Taken: m.Taken(), Round: m.Round(), Proved: m.Proved(), Behind: m.Behind(), Damage: []string{}}
		for _, d := range damage {
			shown.Damage = append(shown.Damage, d.Error())
		}
		if err := shown.print(cmd.OutOrStdout(), *output); err != nil {
			return err
		}
		if len(damage) > 0 || m.Behind() {
			return errFindings
		}
		return nil
	}
	return cmd
}

// manifestView is what is shown of a manifest.
type manifestView struct {
	images.Count

	Records []string  `json:"records"`
	Taken   time.Time `json:"taken,omitzero"`
	Round   time.Time `json:"round,omitzero"`
	Proved  time.Time `json:"proved,omitzero"`
	Behind  bool      `json:"behind"`
	Damage  []string  `json:"damage"`
}

func (v manifestView) print(w io.Writer, f format) error {
	if f == jsonish {
		return printJSON(w, v)
	}
	rows := [][]string{
		{"taken", dateText(v.Taken)},
		{"repositories", strconv.Itoa(v.Repositories)},
		{"tags", strconv.Itoa(v.Tags)},
		{"images", strconv.Itoa(v.Images)},
		{"blobs", fmt.Sprintf("%d, %s", v.Blobs, bytesText(v.Bytes))},
		{"hashed", fmt.Sprintf("%d of %d", v.Verified, v.Blobs)},
		{"longest ago", dateText(v.Oldest)},
		{"round began", dateText(v.Round)},
		{"round ended", dateText(v.Proved)},
	}
	for _, dir := range v.Records {
		rows = append(rows, []string{"kept in", dir})
	}
	for _, d := range v.Damage {
		rows = append(rows, []string{"damaged", d})
	}
	return printRows(w, nil, rows)
}

// bytesText writes a number of bytes in the unit in which people read it.
func bytesText(n int64) string {
	const thousand = 1000
	if n < thousand {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/thousand, 0
	for units := "kMGTP"; f >= thousand && unit < len(units)-1; unit++ {
		f /= thousand
	}
	return fmt.Sprintf("%.3g %cB", f, "kMGTP"[unit])
}

// dateText writes when something was; a dash for never.
func dateText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
