package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	_ "github.com/lib/pq" // the driver "postgres"
)

// schema is a part of Harbor's, with its names: what asks Harbor's database about images may ask this one.
const schema = `
CREATE TABLE IF NOT EXISTS project (
	project_id SERIAL PRIMARY KEY, owner_id int NOT NULL DEFAULT 1, name varchar(255) NOT NULL UNIQUE, creation_time timestamp DEFAULT CURRENT_TIMESTAMP,
	update_time timestamp DEFAULT CURRENT_TIMESTAMP, deleted boolean NOT NULL DEFAULT false);
CREATE TABLE IF NOT EXISTS repository (
	repository_id SERIAL PRIMARY KEY, name varchar(255) NOT NULL UNIQUE, project_id int NOT NULL, creation_time timestamp DEFAULT CURRENT_TIMESTAMP,
	update_time timestamp DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS artifact (
	id SERIAL PRIMARY KEY, type varchar(255) NOT NULL, media_type varchar(255) NOT NULL, manifest_media_type varchar(255) NOT NULL, project_id int NOT NULL,
	repository_id int NOT NULL, repository_name varchar(255) NOT NULL, digest varchar(255) NOT NULL, size bigint,
	push_time timestamp DEFAULT CURRENT_TIMESTAMP, pull_time timestamp, UNIQUE (repository_id, digest));
CREATE TABLE IF NOT EXISTS tag (
	id SERIAL PRIMARY KEY, repository_id int NOT NULL, artifact_id int NOT NULL REFERENCES artifact(id), name varchar(255) NOT NULL,
	push_time timestamp DEFAULT CURRENT_TIMESTAMP, pull_time timestamp, UNIQUE (repository_id, name));
CREATE TABLE IF NOT EXISTS artifact_reference (
	id SERIAL PRIMARY KEY, parent_id int NOT NULL REFERENCES artifact(id), child_id int NOT NULL REFERENCES artifact(id), child_digest varchar(255) NOT NULL,
	platform varchar(255), urls varchar(1024), annotations json, UNIQUE (parent_id, child_id));
CREATE TABLE IF NOT EXISTS blob (
	id SERIAL PRIMARY KEY, digest varchar(255) NOT NULL UNIQUE, content_type varchar(1024) NOT NULL, size bigint NOT NULL,
	status varchar(255) DEFAULT 'none', creation_time timestamp DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS artifact_blob (
	id SERIAL PRIMARY KEY, digest_af varchar(255) NOT NULL, digest_blob varchar(255) NOT NULL, creation_time timestamp DEFAULT CURRENT_TIMESTAMP,
	UNIQUE (digest_af, digest_blob));
CREATE TABLE IF NOT EXISTS project_blob (
	id SERIAL PRIMARY KEY, project_id int NOT NULL, blob_id int NOT NULL, UNIQUE (project_id, blob_id));
`

// store is the database: the only place that has the tags.
type store struct{ db *sql.DB }

// openStore fails where the real core does: at a database whose port is open and which is starting up.
func openStore(ctx context.Context, address, user, password, database string) (*store, error) {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: address, Path: database, RawQuery: "sslmode=disable&connect_timeout=10"}
	db, err := sql.Open("postgres", u.String())
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("ping the database: %w", err), db.Close())
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("make the tables: %w", err), db.Close())
	}
	return &store{db}, nil
}

// Close ends the connections.
func (s *store) Close() error { return s.db.Close() }

// Record implements tags. The answer comes after the commit, and PostgreSQL commits to the disk.
func (s *store) Record(ctx context.Context, repository, tag string, m manifest) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("record %s@%s: %w", repository, m.Digest, err)
	}
	if err := record(ctx, tx, repository, tag, m); err != nil {
		return errors.Join(fmt.Errorf("record %s@%s: %w", repository, m.Digest, err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("record %s@%s: %w", repository, m.Digest, err)
	}
	return nil
}

// upsert returns the number of a row that is there afterwards, whether it was before or not. What conflicts is set to what it is.
func upsert(ctx context.Context, tx *sql.Tx, query string, args ...any) (id int64, err error) {
	return id, tx.QueryRowContext(ctx, query, args...).Scan(&id)
}

func record(ctx context.Context, tx *sql.Tx, repository, tag string, m manifest) error {
	name, _, _ := strings.Cut(repository, "/")
	project, err := upsert(ctx, tx, `INSERT INTO project (name) VALUES ($1)
		ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING project_id`, name)
	if err != nil {
		return err
	}
	repo, err := upsert(ctx, tx, `INSERT INTO repository (name, project_id) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET update_time = CURRENT_TIMESTAMP RETURNING repository_id`, repository, project)
	if err != nil {
		return err
	}
	artifact, err := upsert(ctx, tx, `INSERT INTO artifact (type, media_type, manifest_media_type, project_id, repository_id, repository_name, digest, size)
		VALUES ('IMAGE', $1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (repository_id, digest) DO UPDATE SET digest = excluded.digest RETURNING id`,
		cmp.Or(m.Config.MediaType, m.MediaType), m.MediaType, project, repo, repository, m.Digest, m.Size)
	if err != nil {
		return err
	}
	own := descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: m.Size} // a manifest is a blob, too, as Harbor has it
	for _, b := range m.Blobs {
		own.Size -= b.Size
	}
	for _, b := range append([]descriptor{own}, m.Blobs...) {
		if err := recordBlob(ctx, tx, project, m.Digest, b); err != nil {
			return err
		}
	}
	for _, child := range m.Children {
		if _, err := tx.ExecContext(ctx, `INSERT INTO artifact_reference (parent_id, child_id, child_digest)
			SELECT $1, id, digest FROM artifact WHERE repository_id = $2 AND digest = $3 ON CONFLICT DO NOTHING`, artifact, repo, child.Digest); err != nil {
			return err
		}
	}
	if tag == "" {
		return nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO tag (repository_id, artifact_id, name) VALUES ($1, $2, $3)
		ON CONFLICT (repository_id, name) DO UPDATE SET artifact_id = excluded.artifact_id, push_time = CURRENT_TIMESTAMP`, repo, artifact, tag)
	return err
}

func recordBlob(ctx context.Context, tx *sql.Tx, project int64, artifact string, b descriptor) error {
	id, err := upsert(ctx, tx, `INSERT INTO blob (digest, content_type, size) VALUES ($1, $2, $3)
		ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING id`, b.Digest, b.MediaType, b.Size)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO project_blob (project_id, blob_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, project, id); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO artifact_blob (digest_af, digest_blob) VALUES ($1, $2) ON CONFLICT DO NOTHING`, artifact, b.Digest)
	return err
}

// Forget implements tags. An image that an index names stays: the database refuses.
func (s *store) Forget(ctx context.Context, repository, digest string) error {
	const which = `(SELECT id FROM artifact WHERE repository_name = $1 AND digest = $2)`
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("forget %s@%s: %w", repository, digest, err)
	}
	for _, query := range []string{
		`DELETE FROM tag WHERE artifact_id IN ` + which,
		`DELETE FROM artifact_reference WHERE parent_id IN ` + which,
		`DELETE FROM artifact WHERE repository_name = $1 AND digest = $2`,
	} {
		if _, err := tx.ExecContext(ctx, query, repository, digest); err != nil {
			return errors.Join(fmt.Errorf("forget %s@%s: %w", repository, digest, err), tx.Rollback())
		}
	}
	return tx.Commit()
}

// Digest implements tags.
func (s *store) Digest(ctx context.Context, repository, tag string) (digest string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT a.digest FROM tag t JOIN artifact a ON a.id = t.artifact_id WHERE a.repository_name = $1 AND t.name = $2`,
		repository, tag).Scan(&digest)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return digest, err
}

// Repositories implements tags.
func (s *store) Repositories(ctx context.Context) ([]string, error) {
	return s.strings(ctx, `SELECT name FROM repository ORDER BY name COLLATE "C"`)
}

// Tags implements tags.
func (s *store) Tags(ctx context.Context, repository string) ([]string, error) {
	return s.strings(ctx, `SELECT t.name FROM tag t JOIN repository r USING (repository_id) WHERE r.name = $1 ORDER BY t.name COLLATE "C"`, repository)
}

func (s *store) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err has what went wrong
	all := []string{}
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
