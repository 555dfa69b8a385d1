//go:build !linux

package vip

import "errors"

// CheckTransparent is for Linux.
func CheckTransparent() error { return nil }

// DeliversElsewhere is for Linux.
func DeliversElsewhere(bool) (bool, error) { return false, errors.ErrUnsupported }
