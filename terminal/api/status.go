package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gate-agent/gate-agent/terminal"
	"github.com/gate-agent/gate-agent/whitelist"
)

// signals are the names of what the lamps show while nobody is served.
var signals = map[terminal.Signal]string{
	terminal.ShowReady: "ready", terminal.ShowCaution: "caution",
	terminal.ShowOutOfOrder: "out_of_order", terminal.ShowEmergency: "emergency",
}

func (s *server) status(r *http.Request) (any, error) {
	return s.Status(r.Context(), s.started), nil
}

// Status is how the agent and its lanes are; started has a monotonic reading.
func (s Parts) Status(ctx context.Context, started time.Time) Status {
	now, latest := s.Now(), s.Journal.Latest()
	st := Status{Terminal: s.Terminal, Staff: s.Staff != nil, Version: s.Version, UptimeS: int64(time.Since(started).Seconds())}
	for _, l := range s.Lanes {
		st.Lanes = append(st.Lanes, l.status(ctx))
	}
	if s.Staff != nil {
		st.OnDuty = person(s.Staff.OnDuty())
	}
	if s.Operator != nil {
		o := s.Operator()
		st.Operator = &o
	}
	if s.Hub != nil {
		h := s.Hub()
		st.Hub = &h
	}
	if view, err := s.List.Current(); err == nil {
		st.List = listStatus(view.Manifest(), now)
		view.Release()
	}
	shown, trusted := s.Lanes[0].Desk.Clock()
	st.Clock = ClockStatus{Now: shown.UTC(), Trusted: trusted, Latest: known(latest)}
	// Whatever is broken: somebody asks because it is.
	var err error
	if st.Journal.Open, st.Journal.InDoubt, err = s.Journal.Unsettled(ctx); err != nil {
		st.Journal.Detail = err.Error()
	}
	return st
}

func (l Lane) status(ctx context.Context) LaneStatus {
	shows, why := l.Desk.Idle()
	st := LaneStatus{
		Lane: l.label(), Gate: l.Gate, Direction: l.Direction.String(), Mode: l.Mode,
		Signal: signals[shows], Why: append([]terminal.Reason{}, why...), Halts: l.Desk.Halted(),
	}
	st.Reader.Detail, st.Reader.Up = l.Readers(ctx)
	return st
}

func listStatus(m whitelist.Manifest, now time.Time) *ListStatus {
	l := &ListStatus{
		Epoch: m.Epoch, Seq: m.Seq, IssuedAt: m.IssuedAt, AgeS: seconds(m.IssuedAt, now),
		NotAfter: m.NotAfter, LeftS: seconds(now, m.NotAfter), RevocationAsOf: known(m.RevocationAsOf),
	}
	if l.RevocationAsOf != nil {
		age := seconds(m.RevocationAsOf, now)
		l.RevocationAgeS = &age
	}
	return l
}

func seconds(from, to time.Time) int64 { return to.Unix() - from.Unix() }

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
