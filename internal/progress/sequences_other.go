//go:build !windows

package progress

import "os"

// enableSequences does nothing: terminals have the escape sequences that rows need.
func enableSequences(*os.File) error { return nil }
