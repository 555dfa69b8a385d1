//go:build linux

package main

func report(e environment, o options, c []contestant, r *results) string { return "" }
