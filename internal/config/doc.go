// Package config is pen's language: one table of words, and everything that
// follows from it. The same words are lines of a configuration file, commands
// on the control port, arguments of -O and long options, so the parsers, the
// help, the completion scripts, the tables of the manual and the checks of
// `pen --check` all come from that table.
//
// A text is read in one of two tempers. Files and long options are read
// strictly: every mistake is reported with its place, what was expected and
// what was probably meant, and a text with a mistake changes nothing. The
// control port and -O are read as the original pen does: numbers as C's atoi,
// surplus words ignored, refusals mostly silent.
//
// Nothing here asks the network or changes anything but by Save: names are
// resolved by a Resolver that the caller brings, and changes leave as
// state.Ops for the caller to propose.
package config
