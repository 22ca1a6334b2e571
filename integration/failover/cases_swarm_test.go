//go:build machines

package failover_test

import (
	"fmt"
	"strconv"
	"strings"
)

// swarmCases are the two that the ancestor had: a service whose volume follows its task.
func swarmCases() []scenario {
	return []scenario{
		{
			name: "swarm-node-goes", what: "a service's node is shut down: the task, its volume and its data appear on the other node",
			setup: func(s *scene) {
				s.swarm()
				v := s.plan(one, "svc", "ext4")
				s.sh(two, v.create())
				v.labels = nil  // another dockerd's: each keeps its own
				s.known(one, v) // swarm gives tasks only to nodes whose dockerd has spoken to the driver since it started (docs/install.md)
				s.service(v, 1, "--constraint node.hostname!=nowhere")
				s.more(v, 10)
			},
			fault: func(s *scene) {
				v := s.volumes[0]
				where := s.taskNode(v)
				if where == one { // the only manager would take the swarm with it
					s.sh(one, "docker node update --availability drain "+one)
					s.more(v, 10)
					s.sh(one, "docker node update --availability active "+one)
				}
				s.off(two)
				s.moreWithin(v, 10, bootTime)
				if got := s.taskNode(v); got != one {
					s.t.Errorf("the task is on %q, want %s", got, one)
				}
				s.must(s.PowerOn(two))
			},
			expect: func(s *scene) { s.rebooted(two); s.endService() },
		},
		{
			name: "swarm-replicas", what: "two replicas on one node share the volume; one goes: the volume is in use all the same; the service goes: the disk too",
			setup: func(s *scene) {
				s.swarm()
				v := s.volume(one, "svc", "ext4")
				s.sh(one, fmt.Sprintf("docker service create --quiet --detach --no-resolve-image --name %s --replicas 1 --constraint node.hostname==%s --mount type=volume,source=%s,destination=/data,volume-driver=vmdk %s hold",
					v.name, one, v.name, writerImage))
				s.replicas(v, 1)
			},
			fault: func(s *scene) {
				v := s.volumes[0]
				s.sh(one, "docker service scale --detach "+v.name+"=2")
				s.replicas(v, 2)
				s.sh(one, "docker service scale --detach "+v.name+"=1")
				s.replicas(v, 1)
				s.refused(one, "docker volume rm "+v.name, "in use")
			},
			expect: func(s *scene) { s.endService(); s.detached(s.volumes[0]) },
		},
	}
}

// swarm joins both machines.
func (s *scene) swarm() {
	s.t.Helper()
	address := s.sh(one, "ip -4 -o addr show | grep -o '10\\.77\\.0\\.[0-9]*' | head -1")
	s.sh(one, "docker swarm init --advertise-addr "+address+" --listen-addr "+address)
	token := s.sh(one, "docker swarm join-token -q worker")
	other := s.sh(two, "ip -4 -o addr show | grep -o '10\\.77\\.0\\.[0-9]*' | head -1")
	s.sh(two, fmt.Sprintf("docker swarm join --token %s --advertise-addr %s --listen-addr %s %s:2377", token, other, other, address))
	s.after = append(s.after, func() {
		s.sh(two, "docker swarm leave --force")
		s.sh(one, "docker swarm leave --force")
	})
}

// service starts the volume's writer as a service.
func (s *scene) service(v *vol, replicas int, more string) {
	s.t.Helper()
	s.sh(one, fmt.Sprintf("docker service create --quiet --detach --no-resolve-image --network host --name %s --replicas %d %s "+
		"--mount type=volume,source=%s,destination=/data,volume-driver=vmdk --mount type=bind,source=/run/mooring-lab,destination=/run/mooring-lab %s write /data %s 50ms",
		v.name, replicas, more, v.name, writerImage, v.name))
}

// taskNode returns the node on which the service's task runs.
func (s *scene) taskNode(v *vol) string {
	s.t.Helper()
	return strings.TrimSpace(s.sh(one, "docker service ps --filter desired-state=running --format '{{.Node}}' "+v.name+" | head -1"))
}

// replicas waits until so many tasks run.
func (s *scene) replicas(v *vol, n int) {
	s.t.Helper()
	s.await(soon, fmt.Sprintf("%d replicas run", n), func() bool {
		out, _ := s.try(one, "docker ps -q --filter name="+v.name+" | wc -l")
		return out == strconv.Itoa(n)
	})
}

// endService removes the services. What the volume holds is read as that of any other.
func (s *scene) endService() {
	s.t.Helper()
	s.sh(one, "docker service rm $(docker service ls -q)")
	for _, vm := range s.Names() {
		s.await(soon, "no container of the service is left on "+vm, func() bool {
			out, err := s.try(vm, "docker ps -aq | wc -l")
			return err == nil && out == "0"
		})
	}
}
