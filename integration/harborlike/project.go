package harborlike

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// project is what [Write] writes: templates, of which the scripts begin with #!.
//
//go:embed project
var project embed.FS

// The files of a project that others run.
const (
	ComposeFile   = "docker-compose.yml"
	Prepare       = "prepare"              // gives directories and volumes their owners; must run before the first start
	StaleUpstream = "traps/stale-upstream" // makes the proxy take jobservice for core
)

// Project is the compose project of the stack. What is empty is Harbor's default, or the story's.
type Project struct {
	Port int    // that the proxy has on the machine; 80
	Data string // directory of what is on no volume; /data
	Logs string // directory of the log service; /var/log/harbor

	// The volumes' names. They are external: whoever starts the stack makes them, with any driver.
	Registry string // vsanvol1
	Database string // vsanvol2
	JobLogs  string // vsanvol3
}

// Write puts the project into the directory, over what is there.
func Write(dir string, p Project) error {
	p.Port = cmp.Or(p.Port, 80)
	p.Data = cmp.Or(p.Data, "/data")
	p.Logs = cmp.Or(p.Logs, "/var/log/harbor")
	p.Registry, p.Database, p.JobLogs = cmp.Or(p.Registry, "vsanvol1"), cmp.Or(p.Database, "vsanvol2"), cmp.Or(p.JobLogs, "vsanvol3")
	err := fs.WalkDir(project, "project", func(name string, d fs.DirEntry, err error) error {
		to := filepath.Join(dir, strings.TrimPrefix(name, "project"))
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		text, err := fs.ReadFile(project, name)
		if err != nil {
			return err
		}
		return p.write(to, string(text))
	})
	if err != nil {
		return fmt.Errorf("write the stack's project: %w", err)
	}
	return nil
}

func (p Project) write(file, text string) error {
	t, err := template.New(filepath.Base(file)).Parse(text)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return err
	}
	mode := fs.FileMode(0o644) // the services' users read them
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	if err := os.WriteFile(file, out.Bytes(), mode); err != nil {
		return err
	}
	return os.Chmod(file, mode)
}
