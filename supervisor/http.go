package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/mooring-sh/mooring"
	"github.com/mooring-sh/mooring/internal/admin"
)

// Handler serves the supervisor's admin socket.
func (s *Supervisor) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+admin.StackPath, func(w http.ResponseWriter, _ *http.Request) { admin.Reply(w, s.stack()) })
	mux.HandleFunc("POST "+admin.HealPath, s.serveHeal)
	mux.HandleFunc("POST "+admin.FlushPath, s.serveFlush)
	mux.HandleFunc("GET "+admin.RecoveriesPath, func(w http.ResponseWriter, _ *http.Request) {
		list, err := s.Reports.List()
		if err != nil {
			admin.Refuse(w, fmt.Errorf("list recoveries: %w", err))
			return
		}
		admin.Reply(w, admin.Recoveries{Recoveries: list})
	})
	mux.HandleFunc(admin.RecoveryPattern, func(w http.ResponseWriter, r *http.Request) {
		rep, err := s.report(r.PathValue("id"))
		if err != nil {
			admin.Refuse(w, err)
			return
		}
		admin.Reply(w, rep)
	})
	return mux
}

// report returns the report on a recovery, and on one that is under way as it is now.
func (s *Supervisor) report(id string) (admin.Recovery, error) {
	now := s.Recovery()
	if now.ID != "" && !now.Phase.final() && (id == now.ID || id == admin.LastRecovery) {
		rep := ReportOf(now, s.found())
		s.addProgress(rep.Images)
		return rep, nil
	}
	rep, err := s.Reports.Find(id)
	if err == nil && rep.ID == now.ID {
		s.addProgress(rep.Images)
	}
	return rep, err
}

// addProgress adds how far the tier is that runs now.
func (s *Supervisor) addProgress(i *admin.Images) {
	if i != nil && s.Images != nil {
		i.Progress = progressOf(s.Images.Observe().Progress)
	}
}

// found returns what was found of each image.
func (s *Supervisor) found() ImagesState {
	if s.Images == nil {
		return ImagesState{}
	}
	return s.Images.Observe()
}

// stack returns how the stack is doing.
func (s *Supervisor) stack() admin.Stack {
	r := s.Recovery()
	r.Services = slices.Clone(r.Services)
	slices.SortStableFunc(r.Services, func(a, b Track) int { return a.Place - b.Place })
	st := admin.Stack{
		Version: s.Version, Configured: s.Stack != nil, Recovery: r.ID, Phase: string(r.Phase), Since: r.Since, Waits: append([]string{}, r.Waits...),
		Services: servicesOf(r), Doors: doorsOf(r), Conditions: append([]admin.Condition{}, r.Conditions...),
	}
	st.Images = imagesOf(r.Images, s.found())
	shorten(st.Images)
	s.addProgress(st.Images)
	if s.Warnings != nil {
		st.Conditions = append(st.Conditions, s.Warnings()...)
	}
	s.mu.Lock()
	trouble := s.trouble
	st.Looked = s.looked
	s.mu.Unlock()
	if trouble != nil {
		st.Conditions = append(st.Conditions, admin.Condition{
			Code: "journal", Severity: admin.Warning, Title: "nothing can be written down", Text: trouble.Error(),
			Cure: "look whether the disk is full: df " + s.Reports.Dir,
		})
	}
	return st
}

// serveHeal has the loop try again what was given up.
func (s *Supervisor) serveHeal(w http.ResponseWriter, r *http.Request) {
	var h admin.Heal
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&h); err != nil && !errors.Is(err, io.EOF) {
		admin.Refuse(w, fmt.Errorf("heal: %w: %w", err, mooring.ErrInvalid))
		return
	}
	if s.Stack == nil {
		admin.Refuse(w, fmt.Errorf("heal: no stack is configured: %w", mooring.ErrNotFound))
		return
	}
	select {
	case s.heal <- h:
		admin.Reply(w, s.stack())
	case <-r.Context().Done():
	}
}

// serveFlush has what the registry remembers of its blobs forgotten.
func (s *Supervisor) serveFlush(w http.ResponseWriter, r *http.Request) {
	cache := s.Recovery().Images.Storage.Cache
	if s.Stack == nil || cache == "" {
		admin.Reply(w, admin.Flushed{})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), limitOf(Restart))
	defer cancel()
	err := s.Stack.Flush(ctx, cache)
	restarted := errors.Is(err, mooring.ErrInvalid)
	if restarted {
		err = s.Stack.Restart(ctx, cache)
	}
	if err != nil {
		admin.Refuse(w, fmt.Errorf("flush the registry's cache: %w", err))
		return
	}
	s.Log.Info("the registry's cache is flushed", "service", cache, "restarted", restarted)
	admin.Reply(w, admin.Flushed{Service: string(cache), Restarted: restarted})
}
