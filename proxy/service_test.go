package proxy

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pen/state"
)

func TestWhatAServiceLearnsIsInTheStateWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.down[1] = true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.run(ctx)
		}()
		w.visits("10.0.0.1", "B A")
		cancel()
		<-done
		sv := w.machine.View().Service("")
		if e, ok := sv.Clients().Lookup(clientN(1)); !ok || e.Server != 0 {
			t.Errorf("client: got %+v %v, want server 0", e, ok)
		}
		if sv.Servers[1].Mark != w.now {
			t.Errorf("mark %d, want %d", sv.Servers[1].Mark, w.now)
		}
	})
}

func TestAServiceWithoutAStateRemembersByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		v := w.machine.View()
		var none *lists
		w.service = newService(slog.New(slog.DiscardHandler), nil, v.Service(""))
		w.configure(v, v.Service(""), none.compile(v, nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.run(ctx)
		}()
		w.visits("10.0.0.1", "B")
		time.Sleep(time.Minute)
		w.visits("10.0.0.1", "B")
		cancel()
		<-done
	})
}

func TestWeightWithoutWeightsIsAWarningOnce(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, 2)
	w.log = slog.New(slog.NewTextHandler(&log, nil))
	w.set(state.OptWeight, state.Bool(true))
	w.set(state.OptTimeout, state.Int(5))
	if n := strings.Count(log.String(), "no server has a weight"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, log.String())
	}
	w.visits("10.0.0.1", "-")
	w.server(0, func(s *state.Server) { s.Weight = 1 }, state.FieldWeight)
	w.visits("10.0.0.1", "A")
}

func TestWhoHasTheEmergencyServerMayUseItsExtraPlaces(t *testing.T) {
	w := newWorld(t, 0)
	w.server(state.Emergency, func(s *state.Server) { s.Soft, s.Hard = 1, 2 }, state.FieldSoft|state.FieldHard)
	w.holds("10.0.0.1", "emergency")
	w.visits("10.0.0.2", "-")
	w.holds("10.0.0.1", "emergency")
	w.visits("10.0.0.1", "-")
}

func TestABurstOfFailuresIsOneLineInTheLog(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, 1)
	w.log = slog.New(slog.NewTextHandler(&log, nil))
	var held []*server
	for i := range 10 {
		tr := w.begin(clientN(i), 1, w.now)
		tg, ok := w.next(&tr, clientN(i), w.now)
		if !ok {
			t.Fatal("no server")
		}
		held = append(held, tg.server)
	}
	for _, v := range held {
		w.failed(v, errRefused, w.now)
	}
	if n := strings.Count(log.String(), "blacklisting server"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, log.String())
	}
	if got := w.serverStats()[0]; got.Failures != 10 || got.Conns != 0 {
		t.Errorf("got %+v, want 10 failures", got)
	}
}
