package permits

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// perJob is the memory in bytes that one compiler job may need. One go build compiles
// packages in parallel and then links; even kubelet, one of the largest Go programs,
// stays below this limit.
const perJob = 1 << 30

// Jobs returns the number of compilers that run at once: five for four cores, if
// the memory allows it. A go build uses several cores while it compiles packages, one
// core while it links, and sometimes none while it waits for a file or a process. With
// one job for each core, a sixth of the cores would be idle; a second job on a single
// core costs a twentieth of the time.
func Jobs() int {
	memory, ok := availableMemory()
	return jobsFor(runtime.GOMAXPROCS(0), memory, ok)
}

// jobsFor is Jobs for a number of cores and an amount of available memory in
// bytes. If the memory is not known, the number of cores decides. There is at least one
// job.
func jobsFor(cores int, memory int64, known bool) int {
	jobs := (5*cores + 2) / 4
	if known {
		jobs = min(jobs, int(memory/perJob))
	}
	return max(jobs, 1)
}

// Processes returns the value of -p for each of the compilers that run at once, that is
// how many processes one of them may start. Together they may start twice as many
// processes as there are cores. The default of the go command, the number of cores for
// each, would start the square of it.
func Processes(atOnce int) int {
	return max(2, 2*runtime.GOMAXPROCS(0)/max(atOnce, 1))
}

// availableMemory returns the memory in bytes that this process may still use: the lower
// of what the machine has available and the limit of the control group (version 2 or 1).
// ok is false if neither is known, as on systems other than Linux.
func availableMemory() (memory int64, ok bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer f.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text()) // MemAvailable:  24029028 kB
		if len(fields) == 3 && fields[0] == "MemAvailable:" {
			kb, err := strconv.ParseInt(fields[1], 10, 64)
			memory, ok = kb<<10, err == nil
		}
	}
	// The limit of a container is often lower than the memory of the machine.
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && (!ok || limit < memory) {
			memory, ok = limit, true
		}
	}
	return memory, ok
}
