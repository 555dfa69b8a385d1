// Package differential holds our pen against the original one. Both run the
// same scripted sessions, each with its own addresses, servers and clients.
//
// A session is a file in testdata: steps, one per line, each followed by what
// it has to print. Lines that begin with a space are printed by both; in a step
// where the two differ, a line that begins with "-" is the original's and one
// that begins with "+" is ours, and the step is preceded by "differs ID", which
// names the row of docs/compatibility.md that gives the reason. So a difference
// that nobody has decided on fails, and so does one that has gone away. "-..."
// stands for whatever the original prints where that is left to chance.
//
//	backends a b c          servers that answer their name, known as {a} {b} {c}
//	start ARGS              a pen in the foreground with a control port
//	run ARGS                a pen that ends by itself: its status, and where the usage went
//	> COMMAND               a command on the control port and its reply
//	> "BYTES"               the same, unterminated and unquoted as in Go
//	split "BYTES" "BYTES"   the same in two segments
//	fetch 2 3 2             clients 127.0.0.2, .3, .2 and who answers each
//	fetch via ADDR 2        the same through another address; 2:5001 fixes the port
//	request 2 "BYTES" ...   what a client sends raw, piece by piece, and all that comes back
//	hold NAME 2             a connection that stays open
//	quiet NAME 2            one that says nothing
//	raw 2 "BYTES"           sends bytes, and all that comes back, quoted as in Go; none: ends his side
//	open NAME 2             the same without waiting for the answer
//	say NAME TEXT           a line on it and its answer
//	tell NAME TEXT          a line without an answer
//	answer NAME             the next line that comes
//	finish NAME             half-close, and all that comes until the other end closes
//	drop NAME               close it
//	gone NAME               wait until pen closes it
//	refuse, stop, mute, up  a b: close the port, end connections too, answer no SYN, as before
//	answerers a b           the same for datagrams
//	deaf a b                close their ports
//	ask 2:5001 3=           clients send a datagram, `hi` or what follows =, and who answers
//	conns a b               connections open at each server
//	page FILE               the status page in FILE, or of `status`, as text
//	show FILE, copy, move   a file's text; cp and mv
//	signal HUP              and the like
//	exited                  wait for the end: the exit status
//	alive                   whether pen lives on
//	send NAME "BYTES"       bytes on a connection, in one piece, and the answers
//	logged FILE             a request log, quoted, without times
//	collector, collect      where a network log goes, {log}; the next datagram, quoted
//	stdout, notices         what pen printed; what it complained of, without its log
//	pause D                 the passing of time, where that is what matters
//	eventually STEP         a step that is repeated until it prints what it should
//
// Files of a session stand at its end in txtar form and lie in {dir}.
// With -update the steps are run and what they print is written back.
package differential
