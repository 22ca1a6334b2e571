package esx

import "time"

// SetKeepAlive makes the keep-alive run every d; to be called before the first use.
func (s *Session) SetKeepAlive(d time.Duration) { s.keepAliveEvery = d }

// SetRefusalRest makes a refused account rest for d.
func (s *Session) SetRefusalRest(d time.Duration) { s.refusalRest = d }

// SetLinger makes Attach wait up to limit for a disk that another running machine has, and ask every poll.
func (h *Host) SetLinger(limit, poll time.Duration) { h.lingerLimit, h.lingerPoll = limit, poll }

// SetIntent makes Create wait up to limit for another host's unfinished create.
func (h *Host) SetIntent(limit, poll time.Duration) { h.intentLimit, h.intentPoll = limit, poll }

// SetCollect makes a batch wait d for company.
func (h *Host) SetCollect(d time.Duration) { h.collect = d }
