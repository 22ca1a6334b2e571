package main

// services returns the recipes of the stack's images, by the names in compose.yaml.
func services() []recipe {
	return []recipe{
		{
			Name:       "registry",
			Packages:   []string{"docker-registry", "busybox-static"},
			Files:      map[string]string{"etc/docker/registry/config.yml": registryConfig},
			Entrypoint: []string{"docker-registry", "serve", "/etc/docker/registry/config.yml"},
		},
		{
			Name:       "database",
			Packages:   []string{"mariadb-server-core", "mariadb-client-core", "busybox-static"},
			Files:      map[string]string{"start": databaseStart, "etc/passwd": passwd, "etc/group": "root:x:0:\nmysql:x:105:\n"},
			Dirs:       map[string]int{"var/lib/mysql": databaseUser, "run/mysqld": databaseUser},
			Entrypoint: []string{"/start"},
			User:       "mysql",
		},
		{
			Name:       "joblog",
			Packages:   []string{"busybox-static"},
			Files:      map[string]string{"start": jobLogStart},
			Entrypoint: []string{"/start"},
		},
	}
}

// Debian's own configuration asks for a password; this one differs in that and in where the images lie.
const registryConfig = `version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  secret: of-the-demo
`

const databaseUser = 105 // mysql, in the image only

const passwd = "root:x:0:0::/:/bin/sh\nmysql:x:105:105::/:/bin/sh\n"

// The volume is empty the first time. MariaDB wants its directory to belong to it: Docker copies the owner of the
// image's directory to a new volume. stop and kill reach MariaDB itself, for exec leaves no shell in between.
const databaseStart = `#!/bin/sh
set -e
[ -d /var/lib/mysql/mysql ] || mariadb-install-db --datadir=/var/lib/mysql --skip-test-db --skip-name-resolve \
	--auth-root-authentication-method=socket --auth-root-socket-user=mysql
exec mariadbd --datadir=/var/lib/mysql --socket=/run/mysqld/mysqld.sock --skip-networking
`

// A job's end is a line that is on the disk before the next job begins. A line that was torn by a kill is one too few
// and is seen: the numbers must have no gap.
const jobLogStart = `#!/bin/sh
trap 'exit 0' TERM INT
log=/var/log/jobs/job.log
n=$(tail -n 1 $log 2>/dev/null | cut -d' ' -f1)
while :; do
	n=$((n+1))
	echo "$n job done" | dd of=$log oflag=append conv=notrunc,fsync 2>/dev/null
	sleep 0.2
done
`
