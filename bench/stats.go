package main

import (
	"fmt"
	"math"
	"slices"
)

// median is the middle value, or the mean of the two in the middle. It is NaN
// for no values at all.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratios divides a by b round by round. A round that lacks either, which a NaN
// says, is left out: values of different rounds are never compared.
func ratios(a, b []float64) []float64 {
	var out []float64
	for i := range min(len(a), len(b)) {
		r := a[i] / b[i]
		if !math.IsNaN(r) && !math.IsInf(r, 0) {
			out = append(out, r)
		}
	}
	return out
}

// present leaves out the rounds without a value.
func present(values []float64) []float64 {
	return slices.DeleteFunc(slices.Clone(values), math.IsNaN)
}

// spread writes the median and, where there are several values, the range.
func spread(values []float64, format string) string {
	switch len(values) {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf(format, values[0])
	}
	return fmt.Sprintf(format+" ("+format+" to "+format+")",
		median(values), slices.Min(values), slices.Max(values))
}
