package winservice

import (
	"os"
	"sync"
)

// LogFile is the file that a service writes its messages to: nobody sees its
// standard error. When it has grown to a bound it becomes NAME.old, in the place of
// the one before, and a new one is begun, so that both together stay below twice the
// bound.
type LogFile struct {
	name string
	most int64

	mu   sync.Mutex // guards what is below
	file *os.File   // nil: could not be opened again
	size int64
}

// OpenLog opens a log, or goes on with one that is there.
func OpenLog(name string, most int64) (*LogFile, error) {
	l := &LogFile{name: name, most: most}
	return l, l.open()
}

func (l *LogFile) open() error {
	file, err := os.OpenFile(l.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	l.file, l.size = file, info.Size()
	return nil
}

// Write writes a message, whole, into one file. A log that can not be begun anew is
// tried again with the next message.
func (l *LogFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.makeRoom(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := l.file.Write(p)
	l.size += int64(n)
	return n, err
}

func (l *LogFile) makeRoom(n int64) error {
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if l.size == 0 || l.size+n <= l.most {
		return nil
	}
	l.file.Close() // Windows renames no open file
	l.file = nil
	if err := os.Rename(l.name, l.name+".old"); err != nil {
		return err
	}
	return l.open()
}

// Close closes the file.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
