//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"pen/cluster"
	"pen/state"
)

// prepareData makes a data directory of ours in which size clients are known.
// A first run of the program makes the directory, so that it holds the settings
// as the program itself would have them; then the visits are put in by the
// packages that the program uses.
func (k *known) prepareData(ctx context.Context, r request, size int) error {
	st, err := k.setup.set(ctx, r)
	if err != nil {
		return err
	}
	st.strike()
	solo, err := cluster.OpenSolo(r.data, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return errors.Join(addVisits(ctx, solo, size), solo.Close())
}

// addVisits records one visit of each client.
func addVisits(ctx context.Context, solo *cluster.Solo, size int) error {
	const together = 10_000
	service := solo.View().Service(state.DefaultService)
	for begin := 0; begin < size; begin += together {
		visits := state.Visits{Service: service.ID}
		for i := begin; i < min(begin+together, size); i++ {
			visits.Clients = append(visits.Clients, state.Visit{
				Client: clientAddr(firstKnown, uint32(i)), Server: i % len(serverAddrs),
			})
		}
		result, err := solo.Propose(ctx, state.Command{
			Time: state.At(time.Now()), By: "bench", Ops: []state.Op{visits},
		})
		if err := errors.Join(err, result.Err); err != nil {
			return err
		}
	}
	// The probe's client may be one more.
	if n := solo.View().Service(state.DefaultService).Clients().Len(); n < size {
		return fmt.Errorf("%d clients are known, want %d", n, size)
	}
	return nil
}
