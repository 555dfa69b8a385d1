package config

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ParseFile reads a configuration file strictly, with the files that it
// includes. All of them have to be regular files, so that reading never waits
// for somebody. The error is of type Errors and has every mistake; the
// statements that are good are returned beside it, for those who want to look
// further.
func ParseFile(path string) ([]Statement, error) {
	f := fileReader{reader: newReader(InFile)}
	f.open(path, Pos{File: path})
	return f.statements, f.errs.orNil()
}

// StartFile is the configuration file of a start.
type StartFile struct {
	Statements []Statement
	Stream     bool // came from a pipe or a terminal, and can not be read again
	Missing    bool // there is no such file, which is an error as well
}

// ParseStart is ParseFile for the file that a start names. That one may also be
// a pipe or a character device, such as /dev/stdin: it is read until it ends,
// for half a minute at most. What it includes has to be regular files.
func ParseStart(path string) (StartFile, error) {
	f := fileReader{reader: newReader(InFile)}
	var start StartFile
	f.openStart(path, &start)
	start.Statements = f.statements
	return start, f.errs.orNil()
}

// ParseReader is ParseFile for a text that is open already. Files that
// it includes are looked for in the working directory, then beside name.
func ParseReader(name string, text io.Reader) ([]Statement, error) {
	f := fileReader{reader: newReader(InFile)}
	f.read(name, text)
	return f.statements, f.errs.orNil()
}

// fileReader follows includes.
type fileReader struct {
	*reader
	including []string // files that are being read, outermost first
	bytes     int64    // read so far from all of them
	files     int      // that were included
	stopped   bool     // a bound was met: nothing more is read
	stream    bool     // the outermost is a pipe or a terminal
}

// open reads a regular file; from is where it is asked for.
func (f *fileReader) open(path string, from Pos) {
	file, mode, err := openFile(path)
	if err == nil {
		defer file.Close()
		if !mode.IsRegular() {
			err = &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("is %s, expected a regular file", kindOf(mode))}
		}
	}
	if err != nil {
		f.mistake(unreadable(err, from))
		return
	}
	f.read(path, file)
}

// streamPatience is how long a stream may take to end.
const streamPatience = 30 * time.Second

// openStart reads the file of a start and tells what it was.
func (f *fileReader) openStart(path string, start *StartFile) {
	from := Pos{File: path}
	file, mode, err := openFile(path)
	if err != nil {
		start.Missing = errors.Is(err, fs.ErrNotExist)
		f.mistake(unreadable(err, from))
		return
	}
	defer file.Close()
	switch {
	case mode.IsRegular():
	case mode&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0:
		err := &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("is %s, expected a file or a pipe", kindOf(mode))}
		f.mistake(unreadable(err, from))
		return
	default:
		start.Stream, f.stream = true, true
		_ = file.SetReadDeadline(time.Now().Add(streamPatience)) // not every device has one
	}
	f.read(path, file)
	if mode&fs.ModeNamedPipe != 0 && f.bytes == 0 && len(f.errs) == 0 {
		// A pipe that nobody has opened for writing ends at once.
		err := &os.PathError{Op: "read", Path: path, Err: errors.New("is a pipe into which nobody writes")}
		f.mistake(unreadable(err, from))
	}
}

// openFile opens without waiting and tells what was opened.
func openFile(path string) (*os.File, fs.FileMode, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Mode(), nil
}

// kindOf names what is no regular file.
func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}

// unreadable leaves out the name of the system call, and the path where the
// position has it.
func unreadable(err error, from Pos) *Error {
	e := &Error{Pos: from, What: err.Error(), Err: err}
	if p, ok := errors.AsType[*os.PathError](err); ok {
		e.What = "read " + p.Path + ": " + p.Err.Error()
		if from.File == p.Path && from.Line == 0 {
			e.What = p.Err.Error()
		}
	}
	return e
}

// byteOrderMark begins the files of some editors, and means nothing.
const byteOrderMark = "\ufeff"

func (f *fileReader) read(name string, text io.Reader) {
	dir := f.dir
	f.including, f.dir = append(f.including, identity(name)), f.homeOf(name)
	defer func() { f.including, f.dir = f.including[:len(f.including)-1], dir }()

	lines := bufio.NewReaderSize(text, MaxLine+2)
	if mark, _ := lines.Peek(len(byteOrderMark)); string(mark) == byteOrderMark {
		_, _ = lines.Discard(len(mark))
		f.bytes += int64(len(mark))
	}
	for number := 1; !f.stopped; number++ {
		f.pos = Pos{File: name, Line: number}
		line, err := f.next(lines)
		if err != nil && !errors.Is(err, io.EOF) {
			f.stop(0, err.Error())
			return
		}
		f.one(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), name)
		if err != nil {
			return
		}
	}
}

// homeOf is the directory in which the relative paths of a file begin. That of a
// stream says nothing.
func (f *fileReader) homeOf(name string) string {
	if f.stream && len(f.including) == 0 {
		return ""
	}
	return filepath.Dir(name)
}

// next reads a line. One that is too long is a mistake, and is skipped.
func (f *fileReader) next(lines *bufio.Reader) (string, error) {
	line, err := lines.ReadSlice('\n')
	f.bytes += int64(len(line))
	text := string(line)
	if long := strings.TrimRight(text, "\r\n"); errors.Is(err, bufio.ErrBufferFull) || len(long) > MaxLine {
		f.fail(MaxLine+1, "line too long", fmt.Sprintf("at most %d bytes", MaxLine), "")
		text = ""
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = lines.ReadSlice('\n')
		f.bytes += int64(len(line))
		if f.bytes > MaxFile {
			break
		}
	}
	if f.bytes > MaxFile {
		return "", fmt.Errorf("more than %d bytes of configuration", int64(MaxFile))
	}
	return text, err
}

// stop is a mistake after which nothing more is read: one bound that is met
// would be met again in every file that is left.
func (f *fileReader) stop(column int, what string) {
	f.fail(column, what, "", "")
	f.stopped = true
}

// one reads a line and follows it if it includes a file.
func (f *fileReader) one(line, name string) {
	if i := strings.IndexByte(line, 0); i >= 0 {
		f.fail(i+1, "a zero byte", "text", "")
		return
	}
	before := len(f.statements)
	f.line(line)
	if len(f.statements) == before {
		return
	}
	s := f.statements[before]
	if s.Word.Name != "include" {
		return
	}
	f.statements = f.statements[:before]
	f.include(s, name)
}

// include reads another file. What it is about afterwards is what it was about
// before: a service that the other file begins ends with it.
func (f *fileReader) include(s Statement, name string) {
	pos, service := f.pos, f.service
	defer func() { f.pos, f.service = pos, service }()
	path := beside(s.Args[0].Text, name)
	switch {
	case slices.Contains(f.including, identity(path)):
		f.fail(s.Args[0].Column, fmt.Sprintf("%s includes itself", path), "", "")
	case len(f.including) >= MaxDepth:
		f.stop(s.Args[0].Column, fmt.Sprintf("files include one another more than %d deep", MaxDepth))
	case f.files >= MaxFiles:
		f.stop(s.Args[0].Column, fmt.Sprintf("more than %d files included", MaxFiles))
	default:
		f.files++
		f.open(path, s.at(0))
	}
}

// beside is a path as the original takes it, from the working directory; what is
// not there may lie beside the file that asks for it.
func beside(path, name string) string {
	if filepath.IsAbs(path) {
		return path
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	return filepath.Join(filepath.Dir(name), path)
}

// identity is the same for all names of a file, as far as that can be known.
func identity(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return path
}
