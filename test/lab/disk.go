//go:build linux

package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// DataDir is where the node's pen has its data.
func (n *Node) DataDir() string { return filepath.Join(n.Dir, "data") }

// Disk gives the node a disk of its own for its data, 512 MiB large, which can be
// filled and stalled. It exists for the programs on the node only, and ends with
// the last of them. It is called before the first program starts.
func (n *Node) Disk() error {
	if err := n.cell.do(ownMounts); err != nil {
		return fmt.Errorf("mounts of %s: %w", n.Name, err)
	}
	return n.shell("truncate -s 512M disk && mkfs.ext4 -q -F -m 0 disk && mkdir data && mount -o loop disk data && rmdir data/lost+found")
}

// ownMounts lets nobody else see what is mounted on this thread.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	return unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// Fill takes the room on the node's disk, until Free.
func (n *Node) Fill() error {
	return n.shell("fallocate -l $(df --output=avail -B1 data | tail -n 1) data/filler 2>/dev/null; ! cat /dev/zero 2>/dev/null >>data/filler")
}

// Free gives the room back.
func (n *Node) Free() error { return n.shell("rm -f data/filler") }

// Stall lets nothing be written to the node's disk for a while: who writes waits,
// and can not even be killed. It returns at once, and the while ends also if the lab
// does.
func (n *Node) Stall(d time.Duration) error {
	return n.shell(fmt.Sprintf("fsfreeze -f data && { (sleep %.3f; fsfreeze -u data) </dev/null >/dev/null 2>&1 & }", d.Seconds()))
}

// ReadOnly lets the node's disk find an error in itself, after which it takes nothing
// more, until Repair.
func (n *Node) ReadOnly() error {
	return n.shell("mount -o remount,errors=remount-ro data && mkdir -p sys && mount -t sysfs none sys && " +
		"d=$(findmnt -n -o SOURCE data || df --output=source data | tail -n 1) && echo test >sys/fs/ext4/${d##*/}/trigger_fs_error; umount sys")
}

// Repair makes a disk whole that is read-only, as an operator does. Nobody may have
// a file open there.
func (n *Node) Repair() error {
	return n.shell("umount data && { fsck.ext4 -y disk >/dev/null 2>&1; [ $? -lt 4 ]; } && mount -o loop disk data")
}

// Wipe removes the node's data.
func (n *Node) Wipe() error { return n.shell("find data -mindepth 1 -delete") }

func (n *Node) shell(line string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := n.Run(ctx, "sh", "-c", line)
	return err
}
