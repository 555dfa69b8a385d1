//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// settle is how long memory is given to come to rest before it is measured.
const settle = 300 * time.Millisecond

// idle measures what a proxy takes for connections that do nothing. What it
// takes once and for all, with the first few connections, is not counted: a
// short load runs before.
func (s *setup) idle(ctx context.Context, conns int, p *contestant, secure bool) (sample, error) {
	// Some slots more than connections: the warm-up's last may still be closing.
	st, err := s.set(ctx, request{proxy: p, mode: echo, secure: secure, conns: conns + 100})
	if err != nil {
		return nil, err
	}
	defer st.strike()
	clients := loadJob{FirstClient: firstClient, Clients: ordinaryClients, Time: 200 * time.Millisecond}
	warm := clients
	warm.Mode, warm.Conns = connects, atOnce
	held := hold
	if secure {
		warm.Mode, held = connectsTLS, holdTLS
	}
	if _, err := st.run(warm); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	before, err := usageOf(st.pids())
	if err != nil {
		return nil, err
	}
	clients.Mode, clients.Conns, clients.Time = held, conns, 30*time.Second
	var after usage
	err = st.begin(clients, func(h *helper) error {
		var done outcome
		if err := h.read(&done); err != nil {
			return err
		}
		if done.Error != "" {
			return errors.New(done.Error)
		}
		time.Sleep(settle)
		after, err = usageOf(st.pids())
		return err
	})
	if err != nil {
		return nil, err
	}
	return sample{
		startRSS: float64(before.RSS) / 1024,
		eachRSS:  float64(after.RSS-before.RSS) / float64(conns),
		eachFile: float64(after.Files-before.Files) / float64(conns),
	}, nil
}

// start measures how long a proxy takes from its start to its first answer.
func (s *setup) start(ctx context.Context, p *contestant) (sample, error) {
	st, err := s.set(ctx, request{proxy: p, mode: echo, conns: defaultConns})
	if err != nil {
		return nil, err
	}
	defer st.strike()
	return sample{first: float64(st.First.Microseconds()) / 1e3}, nil
}
