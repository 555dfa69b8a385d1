package main

import (
	"math"
	"testing"
	"time"
)

func TestEveryDurationLiesInItsBucket(t *testing.T) {
	for _, d := range []time.Duration{
		0, 1, 31, 32, 33, 63, 64, 65, 1000, 4095, 4096, time.Millisecond, time.Second, time.Hour, math.MaxInt64 / 4,
	} {
		i := bucket(d)
		if up := upper(i); d >= up {
			t.Errorf("%d in bucket %d, which ends at %d", d, i, up)
		}
		if i > 0 {
			if low := upper(i - 1); d < low {
				t.Errorf("%d in bucket %d, which begins at %d", d, i, low)
			}
		}
	}
}

func TestQuantileIsRightToThreePercent(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond} {
		got := h.quantile(q)
		if diff := float64(got-want) / float64(want); diff < 0 || diff > 0.035 {
			t.Errorf("quantile %v: got %v, want %v to %v", q, got, want, want*1035/1000)
		}
	}
}

func TestQuantileOfNothingIsZero(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("got %v, want 0", got)
	}
}
