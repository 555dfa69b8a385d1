package cluster

import "golang.org/x/sys/unix"

// freeSpace is how many bytes this process can still write to the file system of
// a directory, if that is known.
func freeSpace(dir string) (bytes uint64, ok bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Blocks == 0 {
		return 0, false
	}
	return st.Bavail * uint64(st.Bsize), true
}
