package control

import (
	"net"
	"testing"
)

type fakeStream struct {
	net.Conn
	closed bool
}

func (f *fakeStream) Close() error      { f.closed = true; return nil }
func (f *fakeStream) CloseWrite() error { return nil }

// fill takes all places.
func fill(t *testing.T, s *places) (all []*place) {
	t.Helper()
	for range MaxPeers {
		p := &place{conn: &fakeStream{}, idle: true}
		if displaced, ok := s.enter(p); displaced != nil || !ok {
			t.Fatal("no place before all are taken")
		}
		all = append(all, p)
	}
	return all
}

func TestNewcomerDisplacesTheOldestIdle(t *testing.T) {
	var s places
	all := fill(t, &s)
	s.keep(all[0])
	s.keep(all[1])
	s.release(all[1])
	p := &place{conn: &fakeStream{}}
	displaced, ok := s.enter(p)
	if displaced != all[1].conn || !ok {
		t.Errorf("displaced %p, %v, want %p", displaced, ok, all[1].conn)
	}
	if s.keep(all[1]) {
		t.Error("the displaced one may begin to be answered")
	}
	if !s.keep(all[2]) {
		t.Error("another one lost its place")
	}
}

func TestAnsweredPeersAreNotDisplaced(t *testing.T) {
	var s places
	all := fill(t, &s)
	for _, p := range all {
		s.keep(p)
	}
	p := &place{conn: &fakeStream{}, idle: true}
	if displaced, ok := s.enter(p); displaced != nil || ok {
		t.Errorf("got %v, %v", displaced, ok)
	}
	s.leave(all[5])
	if displaced, ok := s.enter(p); displaced != nil || !ok {
		t.Errorf("after one left: got %v, %v", displaced, ok)
	}
}

// What has not been asked before the end is not carried out after it.
func TestIdlePeersCanNotAskAfterTheEnd(t *testing.T) {
	var s places
	all := fill(t, &s)
	s.keep(all[0])
	s.closeIdle()
	if all[0].conn.(*fakeStream).closed || !s.keep(all[0]) {
		t.Error("the reply under way is cut")
	}
	if !all[1].conn.(*fakeStream).closed || s.keep(all[1]) {
		t.Error("an idle peer goes on")
	}
	s.closeAll()
	if !all[0].conn.(*fakeStream).closed {
		t.Error("left open")
	}
}
