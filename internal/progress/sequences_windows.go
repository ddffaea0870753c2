package progress

import (
	"os"

	"golang.org/x/sys/windows"
)

// enableSequences makes the console execute escape sequences, which it prints as text by
// default. Consoles before Windows 10 return an error.
func enableSequences(f *os.File) error {
	var mode uint32
	console := windows.Handle(f.Fd())
	if err := windows.GetConsoleMode(console, &mode); err != nil {
		return err
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING)
}
