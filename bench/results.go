package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// metric names one figure of a sample.
type metric string

// The figures.
const (
	cpuEach  metric = "cpu"     // CPU time of the proxy: us for an operation, s for a GB
	rate     metric = "rate"    // operations, or GB, in a second
	p50      metric = "p50"     // us
	p99      metric = "p99"     // us
	busy     metric = "busy"    // part of the proxy's core that it used
	foreign  metric = "foreign" // part of both cores that others used
	startRSS metric = "rss"     // MiB, before the connections
	eachRSS  metric = "each"    // KiB for a connection
	eachFile metric = "files"   // descriptors for a connection
	first    metric = "first"   // ms from start to first answer
)

// sample is what one measurement of one proxy gave.
type sample map[metric]float64

// String lists the figures by name.
func (s sample) String() string {
	var b strings.Builder
	for _, m := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "  %s %.4g", m, s[m])
	}
	return b.String()
}

// key is what samples of several rounds have in common.
type key struct{ Case, Proxy string }

// results are all samples, by round. The zero value is empty.
type results struct {
	samples map[key][]sample
	// Notes are what a reader must know: what was left out, what failed.
	Notes []string
}

// add keeps a sample; earlier rounds without one stay empty.
func (r *results) add(round int, k key, s sample) {
	if r.samples == nil {
		r.samples = make(map[key][]sample)
	}
	for len(r.samples[k]) <= round {
		r.samples[k] = append(r.samples[k], nil)
	}
	r.samples[k][round] = s
}

// note keeps a note once.
func (r *results) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.Notes, text) {
		r.Notes = append(r.Notes, text)
	}
}

// values are one figure round by round, NaN where a round has none.
func (r *results) values(k key, m metric) []float64 {
	values := make([]float64, len(r.samples[k]))
	for i, s := range r.samples[k] {
		v, ok := s[m]
		if !ok {
			v = math.NaN()
		}
		values[i] = v
	}
	return values
}

// median is the median of one figure over the rounds, NaN if there is none.
func (r *results) median(k key, m metric) float64 { return median(present(r.values(k, m))) }

// against are the ratios of a figure of a to that of b, each within a round.
func (r *results) against(a, b key, m metric) []float64 {
	return ratios(r.values(a, m), r.values(b, m))
}

// has tells whether there is any sample.
func (r *results) has(k key) bool { return len(r.samples[k]) > 0 }
