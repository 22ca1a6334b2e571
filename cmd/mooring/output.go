package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"
)

// format says how a listing is printed.
type format string

const (
	table   format = "table" // for people: its columns may change
	jsonish format = "json"  // for scripts: its keys keep their meaning
)

// outputFlag gives cmd the flag -o and returns where its value will be.
func outputFlag(cmd *cobra.Command) *format {
	f := table
	cmd.Flags().VarP(&f, "output", "o", "table or json")
	// The only errors are that the flag is absent or has a completion already.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// String returns the format as the flag spells it.
func (f *format) String() string { return string(*f) }

// Set takes the flag's value.
func (f *format) Set(s string) error {
	switch format(s) {
	case table, jsonish:
		*f = format(s)
		return nil
	}
	return errors.New("allowed are table and json")
}

// Type names the value in the help.
func (f *format) Type() string { return "table|json" }

// printJSON prints v for scripts.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// printRows prints rows of cells in columns as wide as need be; without rows only the header, if there is one.
func printRows(w io.Writer, header []string, rows [][]string) error {
	columns := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	if header != nil {
		rows = append([][]string{header}, rows...)
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = cell(c)
		}
		if _, err := io.WriteString(columns, strings.Join(cells, "\t")+"\n"); err != nil {
			return err
		}
	}
	return columns.Flush()
}

// cell keeps what others named from moving columns or steering the terminal, and shows the empty text.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s
}
