//go:build slow

package torture

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mountSmall mounts a file system of so many KiB.
func mountSmall(path string, kib int) (unmount func(), err error) {
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, fmt.Sprintf("size=%dk,mode=0777", kib)); err != nil {
		return nil, err
	}
	return func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) }, nil
}

// resize changes the size of a file system of mountSmall.
func resize(path string, kib int) error {
	return syscall.Mount("tmpfs", path, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dk", kib))
}

// fileCalls are the system calls that change files, except those that write to open ones without an offset.
var fileCalls = map[int]string{
	unix.SYS_MKDIRAT: "mkdir", unix.SYS_UNLINKAT: "unlink", unix.SYS_RENAMEAT: "rename", unix.SYS_RENAMEAT2: "rename",
	unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_FTRUNCATE: "ftruncate",
	unix.SYS_FLOCK: "flock", unix.SYS_PWRITE64: "pwrite",
}

// trace starts the program and calls at before and after each of its system calls, while the thread that calls is
// stopped. It sends the signal that at returns, if that is not 0. After an error the program does not run.
func (r *run) trace(t *testing.T, at func(call int, after bool) syscall.Signal) error {
	t.Helper()
	r.open(t)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // which traces, and ends with this goroutine
		err := r.startTraced()
		started <- err
		if err == nil {
			r.finish(r.follow(at))
		}
	}()
	err := <-started
	r.started(t)
	return err
}

func (r *run) startTraced() error {
	if err := r.cmd.Start(); err != nil {
		return err
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	pid := r.cmd.Process.Pid
	var status syscall.WaitStatus
	_, err := syscall.Wait4(pid, &status, 0, nil) // it stops when it begins
	if err == nil {
		err = syscall.PtraceSetOptions(pid, options)
	}
	if err == nil {
		_, err = readCall(pid)
	}
	if err == nil {
		err = syscall.PtraceSyscall(pid, 0)
	}
	if err != nil {
		_ = r.cmd.Process.Kill()
	}
	return err
}

// follow lets the program's threads run from one system call to the next, and returns how the program ended.
func (r *run) follow(at func(call int, after bool) syscall.Signal) syscall.WaitStatus {
	entered := map[int]int{} // calls, by thread
	for {
		var status syscall.WaitStatus
		// By the process group, since this thread may have started other programs before.
		thread, err := syscall.Wait4(-r.cmd.Process.Pid, &status, unix.WALL, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			panic(err) // there is a program to wait for
		case !status.Stopped() && thread == r.cmd.Process.Pid:
			return status
		case !status.Stopped():
			continue
		}
		pass := status.StopSignal()
		switch pass {
		case syscall.SIGTRAP | 0x80: // by PTRACE_O_TRACESYSGOOD
			r.stopped(thread, entered, at)
			pass = 0
		case syscall.SIGTRAP, syscall.SIGSTOP: // a new thread
			pass = 0
		}
		_ = syscall.PtraceSyscall(thread, int(pass)) // fails if the thread was killed
	}
}

// stopped is called before and after each system call of a thread.
func (r *run) stopped(thread int, entered map[int]int, at func(call int, after bool) syscall.Signal) {
	info, err := readCall(thread)
	if err != nil {
		return // the thread was killed
	}
	after := info.op != callEntry
	if !after {
		entered[thread] = int(info.call)
	}
	if signal := at(entered[thread], after); signal != 0 {
		r.mark()
		_ = syscall.Kill(r.cmd.Process.Pid, signal)
		r.sent(signal)
	}
}

// callInfo is ptrace_syscall_info.
type callInfo struct {
	op   uint8
	_    [23]byte
	call uint64
	_    [56]byte
}

const (
	ptraceGetSyscallInfo = 0x420e
	callEntry            = 1
)

func readCall(thread int) (info callInfo, err error) {
	_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(thread), unsafe.Sizeof(info),
		uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return info, errno
	}
	return info, nil
}
