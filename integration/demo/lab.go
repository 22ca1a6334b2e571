package main

import "context"

// dockerIsTheLabs reports whether the lab started dockerd, for the time of the run.
func (s *story) dockerIsTheLabs(ctx context.Context) (bool, error) {
	var status struct {
		Docker struct {
			Started bool `json:"started"`
		} `json:"docker"`
	}
	err := s.decode(ctx, &status, "mooring-lab", "status", "-o", "json")
	return status.Docker.Started, err
}
