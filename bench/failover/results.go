//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// results are what was measured, maybe in several runs of this program.
type results struct {
	Date    time.Time           `json:"date"`
	Samples map[string][]sample `json:"samples"` // by contender and fault
	Retaken map[string]int      `json:"retaken"` // rounds, by contender
	Stalled map[string]int      `json:"stalled"` // rounds that count although the observers stalled
	Notes   []string            `json:"notes"`
	Load    *loaded             `json:"load,omitempty"`
	New     *newcomers          `json:"newcomers,omitempty"`

	// Of this run.
	bin        string
	rounds     int
	contenders []contender
	faults     []fault
}

// nameOf is the name of the samples of a contender and a fault.
func nameOf(contender, fault string) string { return contender + ": " + fault }

// readResults are those of earlier runs; none if there is no such file.
func readResults(path string) (*results, error) {
	r := &results{Samples: map[string][]sample{}, Retaken: map[string]int{}, Stalled: map[string]int{}}
	if path == "" {
		return r, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("results in %s: %w", path, err)
	}
	return r, nil
}

func (r *results) write(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
