// Package rig is what the black-box tests stand on: it builds the commands,
// starts them as processes, and plays their clients and servers on loopback.
//
// Everything it starts belongs to one test and ends with it. Addresses come
// from blocks of 127/8 that no two tests share, so tests may run side by side
// and ports may be plain constants.
package rig
