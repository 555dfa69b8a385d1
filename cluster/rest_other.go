//go:build !linux

package cluster

import "runtime"

func rest() { runtime.Gosched() }
