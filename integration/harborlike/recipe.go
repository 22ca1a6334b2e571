package harborlike

import (
	"embed"
	"io/fs"
	"path"
	"strings"
	"time"
)

const (
	// version is part of the key: it changes with what the code of this package does to the images.
	version = "1"
	// suite is the release of Debian that the images are made of, whatever runs them.
	suite = "bookworm"
)

// The users that Harbor's services run as.
const (
	harborUser   = 10000
	postgresUser = 999 // and redis's
)

// files is laid over Debian's: what is in bin goes to /usr/local/bin, the rest to where its path says.
//
//go:embed files
var files embed.FS

// packages are those that something is picked from. One that is missing here is found by what cannot be picked.
func packages() []string {
	return []string{
		"docker-registry", "postgresql-15", "postgresql-client-15", "redis-server", "redis-tools", "nginx", "rsyslog", "busybox-static", "tzdata",
		// Their libraries.
		"libc6", "libatomic1", "libaudit1", "libcap-ng0", "libcap2", "libcom-err2", "libcrypt1", "libestr0", "libfastjson4", "libffi8", "libgcc-s1", "libgcrypt20", "libgmp10", "libgnutls30",
		"libgpg-error0", "libgssapi-krb5-2", "libhogweed6", "libicu72", "libidn2-0", "libjemalloc2", "libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "libldap-2.5-0", "libnettle8", "libp11-kit0",
		"liblz4-1", "liblzf1", "liblzma5", "libpam0g", "libpcre2-8-0", "libpq5", "libreadline8", "libsasl2-2", "libssl3", "libstdc++6", "libsystemd0", "libtasn1-6",
		"libtinfo6", "libunistring2", "libuuid1", "libxml2", "libzstd1", "zlib1g",
	}
}

// picks says which files of the packages the services need. Libraries come by themselves.
func picks() []string {
	return []string{
		"usr/bin/busybox",
		"usr/bin/docker-registry",
		"usr/bin/redis-cli", "usr/bin/redis-server",
		"usr/sbin/nginx",
		"usr/sbin/rsyslogd",
		"usr/lib/x86_64-linux-gnu/rsyslog/imtcp.so", "usr/lib/x86_64-linux-gnu/rsyslog/lm*.so",
		"usr/lib/postgresql/15/bin/initdb", "usr/lib/postgresql/15/bin/pg_isready", "usr/lib/postgresql/15/bin/postgres", "usr/lib/postgresql/15/bin/psql",
		"usr/lib/postgresql/15/lib/dict_snowball.so", "usr/lib/postgresql/15/lib/plpgsql.so",
		"usr/share/postgresql/15/*.bki", "usr/share/postgresql/15/*.sample", "usr/share/postgresql/15/*.sql", "usr/share/postgresql/15/*.txt",
		"usr/share/postgresql/15/extension/plpgsql*", "usr/share/postgresql/15/timezonesets/", "usr/share/postgresql/15/tsearch_data/*.stop",
		"usr/share/zoneinfo/Etc/UTC", "usr/share/zoneinfo/UTC",
	}
}

// ownFiles returns what no package brings: configuration, links, directories, and the program that plays Harbor's own.
func ownFiles(program []byte) (tree, error) {
	own := tree{
		"usr/local/bin/roles": {mode: 0o755, content: program},
		"tmp":                 {mode: fs.ModeDir | fs.ModeSticky | 0o777},
		"run/postgresql":      {mode: fs.ModeDir | 0o755, uid: postgresUser},
		"var/run":             {mode: 0o777, link: "/run"},
		"var/log/nginx":       {mode: fs.ModeDir | 0o755, uid: harborUser},
		"var/lib/nginx":       {mode: fs.ModeDir | 0o755, uid: harborUser},
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		own[dir] = member{mode: 0o777, link: "usr/" + dir}
	}
	for applet := range strings.FieldsSeq(applets) {
		own["usr/bin/"+applet] = member{mode: 0o777, link: "busybox"}
	}
	for _, command := range []string{"initdb", "pg_isready", "postgres", "psql"} {
		own["usr/bin/"+command] = member{mode: 0o777, link: "../lib/postgresql/15/bin/" + command}
	}
	return own, fs.WalkDir(files, "files", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		to, mode := strings.TrimPrefix(name, "files/"), fs.FileMode(0o644)
		if script, ok := strings.CutPrefix(to, "bin/"); ok {
			to, mode = path.Join("usr/local/bin", script), 0o755
		}
		own[to] = member{mode: mode, content: content}
		return nil
	})
}

// applets are the commands of busybox that scripts, checks and people need. Harbor's images have as many.
const applets = "sh cat chgrp chmod chown cp cut date dd df du echo env false find grep head hostname id kill ln ls mkdir mktemp mv nc netstat nslookup ping " +
	"ps pwd readlink rm rmdir sed sha256sum sleep sort stat sync tail tee test timeout touch tr true umount uname uniq wc wget which whoami xargs"

// image is one service's. All have the same files.
type image struct {
	Name   string
	Config config
}

// config is the part of Docker's image configuration that is used here, by its names.
type config struct {
	User         string `json:",omitempty"`
	Env          []string
	Labels       map[string]string
	Entrypoint   []string
	WorkingDir   string              `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Healthcheck  health
	StopSignal   string `json:",omitempty"`
}

// health is a HEALTHCHECK; what is not said is Docker's default, an interval of 30 s first of all.
type health struct {
	Test    []string
	Timeout time.Duration `json:",omitempty"`
}

// images returns the services' images, with users, volumes and health checks as Harbor's have them.
func images() []image {
	const harbor, postgres = "10000:10000", "999:999"
	asks := func(url string) string { return "wget -q -O /dev/null " + url }
	log := service("harbor-log", "", "netstat -ltun | grep 10514", "10514/tcp", "start-log")
	log.Config.Volumes = map[string]struct{}{"/var/log/docker/": {}, "/run/": {}, "/etc/logrotate.d/": {}}
	db := service("harbor-db", postgres, "psql -U postgres -d registry -w -c 'SELECT 1'", "5432/tcp", "start-db")
	db.Config.StopSignal = "SIGINT" // PostgreSQL's fast way to end
	redis := service("redis", postgres, `[ "$(redis-cli ping)" = PONG ]`, "6379/tcp", "redis-server", "/etc/redis.conf")
	redis.Config.WorkingDir = "/var/lib/redis"
	return []image{
		log, db, redis,
		service("registry", harbor, asks("http://127.0.0.1:5000/"), "5000/tcp", "docker-registry", "serve", "/etc/registry/config.yml"),
		service("registryctl", harbor, asks("http://127.0.0.1:8080/api/health"), "8080/tcp", "roles", "registryctl"),
		service("harbor-core", harbor, asks("http://127.0.0.1:8080/api/v2.0/ping"), "8080/tcp", "roles", "core"),
		service("jobservice", harbor, asks("http://127.0.0.1:8080/api/v1/stats"), "8080/tcp", "roles", "jobservice"),
		service("portal", harbor, asks("http://127.0.0.1:8080/"), "8080/tcp", "nginx", "-g", "daemon off;"),
		// Harbor's asks for the portal's page only: it is healthy with a core that is none.
		service("nginx", harbor, asks("http://127.0.0.1:8080/"), "8080/tcp", "nginx", "-g", "daemon off;"),
	}
}

func service(name, user, check, port string, argv ...string) image {
	return image{Name: "mooring-lab/" + name, Config: config{
		User: user, Entrypoint: argv,
		Env:          []string{"PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", "PGDATA=/var/lib/postgresql/data/pg15"},
		Labels:       map[string]string{"org.opencontainers.image.title": name},
		ExposedPorts: map[string]struct{}{port: {}},
		Healthcheck:  health{Test: []string{"CMD-SHELL", check}},
	}}
}
