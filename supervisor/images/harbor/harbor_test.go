package harbor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/registry"
	"github.com/mooring-sh/mooring/supervisor/images"
	"github.com/mooring-sh/mooring/supervisor/images/harbor"
)

var (
	_ images.Tags  = harbor.Database{}
	_ images.Needs = harbor.Database{}
)

func digest(s string) registry.Digest { return registry.DigestOf([]byte(s)) }

// tables are those of Harbor's that are read, with the columns that are, and one that is not.
const tables = `
CREATE TABLE project (project_id serial PRIMARY KEY, name varchar(255) NOT NULL UNIQUE, deleted boolean DEFAULT false NOT NULL);
CREATE TABLE repository (repository_id serial PRIMARY KEY, name varchar(255) NOT NULL UNIQUE, project_id int NOT NULL, pull_count int DEFAULT 0 NOT NULL);
CREATE TABLE artifact (id serial PRIMARY KEY, project_id int NOT NULL, repository_id int NOT NULL, repository_name varchar(255) NOT NULL, digest varchar(255) NOT NULL,
	media_type varchar(255) NOT NULL, manifest_media_type varchar(255) NOT NULL, size bigint, push_time timestamp DEFAULT CURRENT_TIMESTAMP, UNIQUE (repository_id, digest));
CREATE TABLE tag (id serial PRIMARY KEY, repository_id int NOT NULL, artifact_id int NOT NULL REFERENCES artifact(id), name varchar(255) NOT NULL,
	push_time timestamp DEFAULT CURRENT_TIMESTAMP, pull_time timestamp, UNIQUE (repository_id, name));
CREATE TABLE artifact_reference (id serial PRIMARY KEY, parent_id int NOT NULL REFERENCES artifact(id), child_id int NOT NULL REFERENCES artifact(id), child_digest varchar(255) NOT NULL);
CREATE TABLE artifact_blob (id serial PRIMARY KEY, digest_af varchar(255) NOT NULL, digest_blob varchar(255) NOT NULL);
CREATE TABLE blob (id serial PRIMARY KEY, digest varchar(255) NOT NULL UNIQUE, content_type varchar(1024) NOT NULL, size bigint NOT NULL, status varchar(255), version bigint DEFAULT 0);
`

// content is a registry with an index under two tags and its two images, and what Harbor keeps of what was deleted.
func content() string {
	return fmt.Sprintf(`
INSERT INTO project (project_id, name, deleted) VALUES (1, 'library', false), (2, 'old#2', true);
INSERT INTO repository (repository_id, name, project_id) VALUES (1, 'library/app', 1), (2, 'old/app', 2), (3, 'library/empty', 1);
INSERT INTO artifact (id, project_id, repository_id, repository_name, digest, media_type, manifest_media_type, size) VALUES
	(1, 1, 1, 'library/app', '%[1]s', 'x', 'application/vnd.oci.image.index.v1+json', 5),
	(2, 1, 1, 'library/app', '%[2]s', 'x', 'application/vnd.oci.image.manifest.v1+json', 5),
	(3, 1, 1, 'library/app', '%[3]s', 'x', 'application/vnd.oci.image.manifest.v1+json', 5),
	(4, 2, 2, 'old/app', '%[3]s', 'x', 'application/vnd.oci.image.manifest.v1+json', 5),
	(5, 1, -5, 'gone/app', '%[2]s', 'UNKNOWN', 'UNKNOWN', 5);
INSERT INTO tag (repository_id, artifact_id, name, push_time) VALUES (1, 1, 'latest', '2024-05-06 07:08:09.123456'), (1, 1, '1.0', NULL), (2, 4, 'v1', '2024-01-01');
INSERT INTO artifact_reference (parent_id, child_id, child_digest) VALUES (1, 2, '%[2]s'), (1, 3, '%[3]s');
INSERT INTO blob (digest, content_type, size, status) VALUES ('%[2]s', 'application/vnd.oci.image.manifest.v1+json', 500, ''), ('%[4]s', 'application/vnd.oci.image.layer.v1.tar+gzip', 3000000000, 'none'),
	('%[5]s', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 7, ''), ('%[6]s', 'application/octet-stream', 9, 'delete');
INSERT INTO artifact_blob (digest_af, digest_blob) VALUES ('%[2]s', '%[2]s'), ('%[2]s', '%[4]s'), ('%[2]s', '%[5]s'), ('%[1]s', '%[1]s');
`, digest("index"), digest("one"), digest("two"), digest("layer"), digest("foreign"), digest("trash"))
}

// The queries are right in the PostgreSQL that Harbor uses, with a password over the loopback interface and without one at the socket; what was deleted is not there; times are those of the core, whatever zone the
// server is in.
func TestDatabaseTellsWhatUsersSee(t *testing.T) {
	s := startPostgres(t)
	s.sql(t, "postgres", "CREATE DATABASE registry")
	s.sql(t, "registry", tables+content())
	want := &images.Rows{Repositories: []images.RowRepository{
		{
			Name: "library/app",
			Images: []images.RowImage{
				{Digest: digest("index"), Media: registry.OCIIndex, Parts: sortedTwo(digest("one"), digest("two"))},
				{Digest: digest("one"), Media: registry.OCIManifest},
				{Digest: digest("two"), Media: registry.OCIManifest},
			},
			Tags: []images.RowTag{
				{Name: "1.0", Target: digest("index")},
				{Name: "latest", Target: digest("index"), Pushed: time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)},
			},
		},
		{Name: "library/empty"},
	}}
	sortImages(want)
	for name, env := range map[string][]string{"socket": nil, "password": {"POSTGRES_PASSWORD=" + password, "POSTGRES_USER=postgres"}} {
		t.Run(name, func(t *testing.T) {
			s := s
			s.env = env
			db := harbor.Database{Run: s}
			got, err := db.Rows(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range got.Repositories {
				for j := range got.Repositories[i].Tags {
					if tag := &got.Repositories[i].Tags[j]; !tag.Pushed.IsZero() {
						tag.Pushed = tag.Pushed.UTC()
					}
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			needs, err := db.Needs(t.Context(), []registry.Digest{digest("one"), digest("two")})
			if want := map[registry.Digest][]images.Ref{digest("one"): {{Digest: digest("layer"), Size: 3_000_000_000}}}; err != nil || !reflect.DeepEqual(needs, want) {
				t.Errorf("got %+v, %v, want %+v", needs, err, want)
			}
		})
	}
	t.Run("mark", func(t *testing.T) { marks(t, s) })
	t.Run("refused", func(t *testing.T) {
		s := s
		s.env = []string{"POSTGRES_PASSWORD=wrong"}
		if _, err := (harbor.Database{Run: s}).Rows(t.Context()); !errors.Is(err, mooring.ErrUnavailable) || !strings.Contains(err.Error(), "password") {
			t.Errorf("got %v, want one that wraps ErrUnavailable and tells of the password", err)
		}
	})
}

// marks wants another mark after each thing that a user can do, and the same one after none.
func marks(t *testing.T, s server) {
	db := harbor.Database{Run: s}
	mark := func() string {
		m, err := db.Mark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	last := mark()
	if again := mark(); again != last {
		t.Errorf("nothing was done: %q became %q", last, again)
	}
	for what, statement := range map[string]string{
		"push":             `INSERT INTO artifact (id, project_id, repository_id, repository_name, digest, media_type, manifest_media_type) VALUES (900, 1, 1, 'library/app', '` + string(digest("new")) + `', 'x', 'y')`,
		"tag":              `INSERT INTO tag (repository_id, artifact_id, name) VALUES (1, 2, 'new')`,
		"tag moved":        `UPDATE tag SET artifact_id = 3, push_time = now() + interval '1 day' WHERE name = 'latest'`,
		"tag deleted":      `DELETE FROM tag WHERE name = '1.0'`,
		"project deleted":  `UPDATE project SET deleted = true WHERE project_id = 1`,
		"repository added": `INSERT INTO repository (repository_id, name, project_id) VALUES (900, 'library/other', 1)`,
	} {
		s.sql(t, "registry", statement)
		now := mark()
		if now == last {
			t.Errorf("%s: the mark stays %q", what, now)
		}
		last = now
	}
}

func sortedTwo(a, b registry.Digest) []registry.Digest {
	if b < a {
		a, b = b, a
	}
	return []registry.Digest{a, b}
}

func sortImages(rows *images.Rows) {
	all := rows.Repositories[0].Images
	for i := range all {
		for j := range i {
			if all[i].Digest < all[j].Digest {
				all[i], all[j] = all[j], all[i]
			}
		}
	}
}

// printed is a database that prints a text.
type printed string

func (p printed) Run(_ context.Context, _ []string, out io.Writer) error {
	_, err := io.WriteString(out, string(p))
	return err
}

// answer is a good one.
func answer() string {
	return "repository\t1\tlibrary/app\ncount\trepository\t1\n" +
		"image\t7\t1\t" + string(digest("one")) + "\t" + registry.OCIManifest + "\ncount\timage\t1\n" +
		"tag\t1\t7\tlatest\t1700000000000000\ncount\ttag\t1\ncount\tpart\t0\n"
}

// An answer that is not wholly what Harbor writes is refused: half a list of images would pass for a whole one, and what it lacks for deleted.
func TestAnAnswerThatIsNotWholeIsRefused(t *testing.T) {
	if rows, err := (harbor.Database{Run: printed(answer())}).Rows(t.Context()); err != nil || len(rows.Repositories) != 1 {
		t.Fatalf("got %+v, %v", rows, err)
	}
	lines := strings.SplitAfter(answer(), "\n")
	cases := map[string]string{
		"an unknown kind":         "user\t1\n" + answer(),
		"a notice":                "WARNING: collation version mismatch\n" + answer(),
		"a null name":             strings.Replace(answer(), "library/app", `\N`, 1),
		"an escaped name":         strings.Replace(answer(), "library/app", `library\tapp`, 1),
		"a name with a space":     strings.Replace(answer(), "library/app", "library app", 1),
		"a short digest":          strings.Replace(answer(), string(digest("one")), string(digest("one"))[:70], 1),
		"a digest in capitals":    strings.Replace(answer(), string(digest("one")), strings.ToUpper(string(digest("one"))), 1),
		"a negative ID":           strings.Replace(answer(), "tag\t1\t7", "tag\t1\t-7", 1),
		"too few fields":          strings.Replace(answer(), "\tlatest", "", 1),
		"too many fields":         strings.Replace(answer(), "latest", "latest\tx", 1),
		"a tag of no artifact":    strings.Replace(answer(), "tag\t1\t7", "tag\t1\t8", 1),
		"a tag of no repository":  strings.Replace(answer(), "tag\t1\t7", "tag\t2\t7", 1),
		"an image of none":        strings.Replace(answer(), "image\t7\t1", "image\t7\t2", 1),
		"a wrong count":           strings.Replace(answer(), "count\ttag\t1", "count\ttag\t2", 1),
		"two counts":              answer() + "count\ttag\t1\n",
		"a row twice":             lines[0] + answer(),
		"a part of no artifact":   strings.Replace(answer(), "count\tpart\t0", "part\t9\t"+string(digest("one"))+"\ncount\tpart\t1", 1),
		"a row that does not end": strings.Repeat("x", 1<<20),
	}
	for n := range len(lines) - 1 {
		cases[fmt.Sprintf("no row %d", n)] = strings.Join(append(append([]string{}, lines[:n]...), lines[n+1:]...), "")
	}
	for _, n := range []int{0, 1, 20, len(answer()) - 1} {
		cases[fmt.Sprintf("only %d bytes", n)] = answer()[:n]
	}
	for name, text := range cases {
		if rows, err := (harbor.Database{Run: printed(text)}).Rows(t.Context()); !errors.Is(err, mooring.ErrCorrupt) {
			t.Errorf("%s: got %+v, %v, want one that wraps ErrCorrupt", name, rows, err)
		}
	}
	for _, text := range []string{"", "mark\t1\t2\t3\t4\t5\t6\n", "mark\t1\t2\t3\t4\t5\t6\t7\t8\n", "mark\t1\t2\t3\t4\t5\t6\tx\n", "mark\t1\t2\t3\t4\t5\t6\t7\nmark", "no\n"} {
		if mark, err := (harbor.Database{Run: printed(text)}).Mark(t.Context()); !errors.Is(err, mooring.ErrCorrupt) {
			t.Errorf("%q: got %q, %v, want one that wraps ErrCorrupt", text, mark, err)
		}
	}
	if _, err := (harbor.Database{Run: printed("")}).Needs(t.Context(), []registry.Digest{"'; DROP TABLE tag; --"}); !errors.Is(err, mooring.ErrInvalid) {
		t.Errorf("got %v, want one that wraps ErrInvalid", err)
	}
}

// Whatever psql prints, the parser says what it means or that it means nothing. What it takes has no name that breaks what is printed of it.
func FuzzRows(f *testing.F) {
	f.Add(answer())
	f.Add("repository\t1\ta\nrepository\t1\ta\n")
	f.Add("need\t" + string(digest("a")) + "\t" + string(digest("b")) + "\t5\ncount\tneed\t1\n")
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := (harbor.Database{Run: printed(text)}).Rows(t.Context())
		if err != nil {
			return
		}
		for _, r := range rows.Repositories {
			for _, tag := range r.Tags {
				if r.Name == "" || tag.Name == "" || strings.ContainsAny(r.Name+tag.Name, "\t\n \\") {
					t.Errorf("took the names %q, %q", r.Name, tag.Name)
				}
				if _, err := registry.ParseDigest(string(tag.Target)); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
