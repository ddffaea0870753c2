package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/mirror"
)

// printMirror prints what became of each image: of one that the command line
// names its repository@digest, as push does; of a file's a line each, and in the
// end how many there are of which kind.
func printMirror(w io.Writer, report *mirror.Report, table bool) error {
	var b strings.Builder
	for _, e := range report.Entries {
		for _, i := range e.Images {
			switch {
			case i.Status == mirror.Failed: // the error says it
			case table:
				b.WriteString(mirrorLine(i, report.DryRun))
			case i.Status == mirror.Skipped:
				fmt.Fprintf(&b, "%s: skipped, %s\n", cmp.Or(i.Target, i.Source), plainLines(i.Why))
			default:
				fmt.Fprintf(&b, "%s@%s\n", withoutName(i.Target), i.Digest)
			}
		}
	}
	if table {
		copied := "copied"
		if report.DryRun {
			copied = "to copy"
		}
		fmt.Fprintf(&b, "%d %s, %d unchanged, %d skipped, %d failed; %s in %.1fs\n",
			report.Copied, copied, report.Same, report.Skipped, report.Failed, humanSize(report.Bytes), report.Seconds)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mirrorLine says what became of one image.
func mirrorLine(i mirror.Result, dry bool) string {
	var notes []string
	if len(i.Absent) > 0 {
		notes = append(notes, "without "+strings.Join(i.Absent, ", "))
	}
	status := i.Status
	switch {
	case i.Status == mirror.Copied && dry:
		status = "copy"
		notes = append(notes, "at most "+humanSize(i.Bytes), i.Why)
	case i.Status == mirror.Copied:
		notes = append(notes, humanSize(i.Bytes))
		if i.Backup != "" {
			notes = append(notes, "before: "+i.Backup)
		}
	case i.Status == mirror.Skipped:
		notes = append(notes, i.Why)
	}
	line := fmt.Sprintf("%-9s  %s", status, cmp.Or(i.Target, i.Source)) // what came to no target
	if i.Digest != "" {
		line = fmt.Sprintf("%-9s  %s@%s", status, i.Target, i.Digest)
	}
	if len(notes) > 0 {
		line += "  " + strings.Join(notes, "; ")
	}
	return plainLines(line) + "\n"
}

// withoutName takes the tag off a target; of a local place the name of the image.
func withoutName(target string) string {
	at, err := mirror.ParseRef(target)
	if err != nil {
		return target
	}
	at.Remote.Tag, at.Remote.Digest, at.Place.Name, at.Place.Digest = "", "", "", v1.Hash{}
	return at.String()
}

// ageFlag is a duration as the file has it, with days and weeks.
type ageFlag struct{ d time.Duration }

func (f *ageFlag) String() string {
	if f.d == 0 {
		return ""
	}
	return f.d.String()
}

func (f *ageFlag) Type() string { return "duration" }

func (f *ageFlag) Set(text string) error {
	return (*config.Duration)(&f.d).UnmarshalText([]byte(text))
}
