package harbor

import (
	"fmt"
	"strings"

	"github.com/mooring-sh/mooring/internal/registry"
)

// A row begins with its kind. Only what a user can see is asked for: repositories of projects that are not deleted, their artifacts (an artifact of a repository that is gone has no repository), and
// the tags of these.
const (
	repositoriesQuery = `SELECT 'repository', r.repository_id, r.name FROM repository r JOIN project p ON p.project_id = r.project_id WHERE NOT p.deleted`

	imagesQuery = `SELECT 'image', a.id, a.repository_id, a.digest, a.manifest_media_type FROM artifact a
JOIN repository r ON r.repository_id = a.repository_id JOIN project p ON p.project_id = r.project_id WHERE NOT p.deleted`

	tagsQuery = `SELECT 'tag', t.repository_id, t.artifact_id, t.name, (extract(epoch FROM t.push_time) * 1000000)::bigint FROM tag t
JOIN artifact a ON a.id = t.artifact_id JOIN repository r ON r.repository_id = t.repository_id AND r.repository_id = a.repository_id
JOIN project p ON p.project_id = r.project_id WHERE NOT p.deleted`

	partsQuery = `SELECT 'part', ar.parent_id, ar.child_digest FROM artifact_reference ar JOIN artifact a ON a.id = ar.parent_id
JOIN repository r ON r.repository_id = a.repository_id JOIN project p ON p.project_id = r.project_id WHERE NOT p.deleted`

	markQuery = `SELECT 'mark', (SELECT count(*) FROM artifact), (SELECT coalesce(max(id), 0) FROM artifact), (SELECT count(*) FROM tag), (SELECT coalesce(max(id), 0) FROM tag),
(SELECT coalesce((extract(epoch FROM max(push_time)) * 1000000)::bigint, 0) FROM tag), (SELECT count(*) FROM repository), (SELECT count(*) FROM project WHERE NOT deleted)`
)

// rowsQueries returns the queries of Rows. After each comes one that counts, so that an answer that was cut off is known to be.
func rowsQueries() []string {
	var all []string
	for _, q := range []struct{ kind, query string }{{"repository", repositoriesQuery}, {"image", imagesQuery}, {"tag", tagsQuery}, {"part", partsQuery}} {
		all = append(all, q.query, countQuery(q.kind, q.query))
	}
	return all
}

func countQuery(kind, query string) string {
	return fmt.Sprintf("SELECT 'count', '%s', count(*) FROM (%s) AS counted(%s)", kind, query, columns(kind))
}

// columns names the columns of a query that is counted: two of them may have one name.
func columns(kind string) string {
	n := map[string]int{"repository": 3, "image": 5, "tag": 5, "part": 3, "need": 4}[kind]
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("c%d", i)
	}
	return strings.Join(names, ", ")
}

// needsQuery asks for the blobs of artifacts, without their manifests, which are among them, and without foreign layers, which the registry does not have.
func needsQuery(of []registry.Digest) (string, error) {
	quoted := make([]string, len(of))
	for i, d := range of {
		if _, err := registry.ParseDigest(string(d)); err != nil { // so it needs no escaping
			return "", err
		}
		quoted[i] = "'" + string(d) + "'"
	}
	return `SELECT 'need', ab.digest_af, b.digest, b.size FROM artifact_blob ab JOIN blob b ON b.digest = ab.digest_blob
WHERE ab.digest_blob <> ab.digest_af AND b.content_type NOT LIKE '%.foreign.%' AND b.content_type NOT LIKE '%.nondistributable.%' AND ab.digest_af IN (` + strings.Join(quoted, ", ") + ")", nil
}
