// Package process runs programs that end with mabuild, whatever they have started.
package process

import "time"

// delay is the time that a program and its output have to end after they are killed.
const delay = time.Second
