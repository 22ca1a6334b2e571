package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newManual returns the command with which packages are given their pages: the help is written once.
func newManual() *cobra.Command {
	return &cobra.Command{
		Use:    "manual DIRECTORY",
		Short:  "Write a page of the manual for each command",
		Hidden: true,
		Args:   exactly("DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.Root().InitDefaultHelpFlag()
			return writePages(cmd.Root(), args[0])
		},
	}
}

// writePages writes cmd's page and those of the commands below it.
func writePages(cmd *cobra.Command, dir string) error {
	cmd.InitDefaultHelpFlag()
	file := filepath.Join(dir, pageName(cmd)+".1")
	errs := []error{os.WriteFile(file, []byte(page(cmd)), 0o644)}
	for _, sub := range documented(cmd) {
		errs = append(errs, writePages(sub, dir))
	}
	return errors.Join(errs...)
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// documented returns the commands below cmd that have pages: cobra's own have none.
func documented(cmd *cobra.Command) []*cobra.Command {
	var subs []*cobra.Command
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() && sub.Name() != "completion" {
			subs = append(subs, sub)
		}
	}
	return subs
}

// page returns cmd's help as man(7) has it. @DATE@ stands for when and of which version the page is, which the packages know.
func page(cmd *cobra.Command) string {
	var p strings.Builder
	fmt.Fprintf(&p, ".TH %q 1 \"@DATE@\" \"Mooring\"\n", strings.ToUpper(pageName(cmd)))
	fmt.Fprintf(&p, ".SH NAME\n%s \\- %s\n", escape(pageName(cmd)), escape(cmd.Short))
	fmt.Fprintf(&p, ".SH SYNOPSIS\n.nf\n")
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&p, "\\fB%s\\fR COMMAND [OPTION]...\n", escape(cmd.CommandPath()))
	} else {
		fmt.Fprintf(&p, "\\fB%s\\fR\n", escape(cmd.UseLine()))
	}
	p.WriteString(".fi\n.SH DESCRIPTION\n")
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	p.WriteString(body(long))
	if subs := documented(cmd); len(subs) > 0 {
		p.WriteString(".SH COMMANDS\n")
		for _, sub := range subs {
			fmt.Fprintf(&p, ".TP\n\\fB%s\\fR\n%s. See \\fB%s\\fR(1).\n", escape(sub.CommandPath()), escape(sub.Short), escape(pageName(sub)))
		}
	}
	options(&p, "OPTIONS", cmd.NonInheritedFlags())
	options(&p, "OPTIONS OF ALL ITS COMMANDS", cmd.InheritedFlags())
	p.WriteString(".SH SEE ALSO\n")
	for up := cmd.Parent(); up != nil; up = up.Parent() {
		fmt.Fprintf(&p, ".BR %s (1),\n", escape(pageName(up)))
	}
	p.WriteString(".BR mooring\\-plugin (8),\n.BR mooring\\-supervisor (8),\n.BR mooring.yaml (5),\n.BR supervisor.yaml (5)\n")
	return p.String()
}

// options writes a section about flags, if there are any.
func options(p *strings.Builder, title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(p, ".SH %s\n", title)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		p.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(p, "\\fB\\-%s\\fR, ", f.Shorthand)
		}
		fmt.Fprintf(p, "\\fB\\-\\-%s\\fR", escape(f.Name))
		if value != "" {
			fmt.Fprintf(p, " \\fI%s\\fR", escape(value))
		}
		fmt.Fprintf(p, "\n%s\n", escape(text))
	})
}

// body turns a help text into paragraphs, the lines that are indented into what is printed as it stands, and a line in capitals into the
// head of a section.
func body(text string) string {
	var b strings.Builder
	indented := false
	indent := func(now bool) {
		if now != indented {
			b.WriteString(map[bool]string{true: ".PP\n.RS 4\n.nf\n", false: ".fi\n.RE\n"}[now])
		}
		indented = now
	}
	blank := false
	for line := range strings.SplitSeq(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "":
			blank = true
			continue
		case strings.HasPrefix(line, "  "):
			if indented && blank {
				b.WriteString(".sp\n")
			}
			indent(true)
			b.WriteString(escape(strings.TrimPrefix(line, "  ")) + "\n")
		case trimmed == strings.ToUpper(trimmed):
			indent(false)
			b.WriteString(".SH " + escape(trimmed) + "\n")
		default:
			indent(false)
			if blank {
				b.WriteString(".PP\n")
			}
			b.WriteString(escape(trimmed) + "\n")
		}
		blank = false
	}
	indent(false)
	return b.String()
}

// escape keeps roff from taking text for its own.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
