package main

import (
	"fmt"
	"time"
)

// figures works out what an outcome means.
func figures(done outcome, bulk bool) (sample, error) {
	count, scale := float64(done.Ops), 1e-3 // ns in us
	if bulk {
		count, scale = float64(done.Bytes)/1e9, 1e-9
	}
	if count == 0 {
		return nil, fmt.Errorf("nothing came through in %v", done.Took.Round(time.Millisecond))
	}
	if done.Failures > done.Ops/1000 {
		return nil, fmt.Errorf("%d failures in %d operations, the first: %s", done.Failures, done.Ops, done.First)
	}
	s := sample{
		cpuEach: float64(done.CPU) * scale / count,
		rate:    count / done.Took.Seconds(),
		busy:    done.CPU.Seconds() / done.Took.Seconds(),
	}
	if !bulk {
		s[p50] = float64(done.P50) / 1e3
		s[p99] = float64(done.P99) / 1e3
	}
	return s, nil
}
