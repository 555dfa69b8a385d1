//go:build linux

package main

import (
	"errors"
	"time"

	"pen/test/lab"
)

// six looks on at the address of IPv6, which is beside that of IPv4 and at the same
// node. What must never be is the same there.
type six struct {
	judge *judge
	stop  chan struct{}
	seen  <-chan lab.Discovery
}

func discover(l *lab.Lab, limit time.Duration) (*six, error) {
	s := &six{judge: &judge{limit: limit}}
	return s, s.begin(l)
}

func (s *six) begin(l *lab.Lab) (err error) {
	s.stop = make(chan struct{})
	s.seen, err = l.Discover(s.stop)
	return err
}

// look judges all that was seen since the last one, and looks on. What it counts is
// counted in v.
func (s *six) look(l *lab.Lab, dues []duty, to time.Time, v *verdict) (wrong []string) {
	d, err := s.end(), s.begin(l)
	mine := s.judge.look(lab.Sight{Answers: d.Answers, Stalls: d.Stalls, Err: errors.Join(d.Err, err)}, since(d.Began, dues), nil, to)
	for _, a := range d.Advertisements {
		if !a.Override {
			mine.wrong = append(mine.wrong, "an advertisement of "+a.Node+" without Override at "+clock(a.At))
		}
	}
	for _, text := range mine.wrong {
		wrong = append(wrong, "IPv6: "+text)
	}
	if v.void += mine.void; mine.worst.length() > v.worst.length() {
		v.worst = mine.worst
	}
	return wrong
}

// end returns what was seen.
func (s *six) end() lab.Discovery {
	close(s.stop)
	return <-s.seen
}

// since leaves out what was before the first question.
func since(began time.Time, dues []duty) (left []duty) {
	for _, d := range dues {
		if d.from.Before(began) {
			d.from = began
		}
		if d.from.Before(d.to) {
			left = append(left, d)
		}
	}
	return left
}
