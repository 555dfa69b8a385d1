package config

// Local are the settings of this process alone. They are never replicated.
// Words and options of kind Local set them.
type Local struct {
	Foreground bool
	AllowExit  bool // -X: the control port may end the process
	ASCII      bool // traffic dumps as text
	Debug      int
	Control    string // as given: [host:]port or a path; empty: no control port
	User       string
	Chroot     string
	PidFile    string
	DataDir    string // empty: the state is kept in memory only
	WebStats   string // HTML status file
	File       string // -F

	// Filed has what files said about settings that matter only at start
	// (control, user, ...): the line, by word. Write saves those and no others:
	// what came from the command line comes from there again.
	Filed map[string]string
}
