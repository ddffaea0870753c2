package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/internal/yamlconf"
)

// printMirror prints the outcome of each image. With table unset, for one image from the
// command line, it prints repository@digest like push. With table set, it prints one line
// per image and a line with the totals. Without a table failed images are reported as errors alone.
func printMirror(w io.Writer, report *mirror.Report, table bool) error {
	var b strings.Builder
	for _, e := range report.Entries {
		for _, i := range e.Images {
			switch {
			case table:
				b.WriteString(mirrorLine(i, report.DryRun))
			case i.Status == mirror.Failed: // is reported as an error
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
			report.Copied, copied, report.Same, report.Skipped, report.Failed, text.Size(report.Bytes), report.Seconds)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mirrorLine returns the line for one image. In a dry run the size is an upper bound,
// since only a copy finds out which blobs the target has.
func mirrorLine(i mirror.Result, dry bool) string {
	var notes []string
	if len(i.Absent) > 0 {
		notes = append(notes, "without "+strings.Join(i.Absent, ", "))
	}
	status := i.Status
	switch {
	case i.Status == mirror.Copied && dry:
		status = "copy"
		notes = append(notes, "at most "+text.Size(i.Bytes), i.Why)
	case i.Status == mirror.Copied:
		notes = append(notes, text.Size(i.Bytes))
		if i.Backup != "" {
			notes = append(notes, "before: "+i.Backup)
		}
	case i.Status == mirror.Skipped, i.Status == mirror.Failed:
		notes = append(notes, strings.TrimPrefix(i.Why, i.Target+": ")) // the line begins with it
	}
	line := fmt.Sprintf("%-9s  %s", status, cmp.Or(i.Target, i.Source)) // may have no target
	if i.Digest != "" && i.Status != mirror.Failed {
		line = fmt.Sprintf("%-9s  %s@%s", status, i.Target, i.Digest)
	}
	if len(notes) > 0 {
		line += "  " + strings.Join(notes, "; ")
	}
	return plainLines(line) + "\n"
}

// withoutName removes tag and digest from a target, or the image's name from a local
// place.
func withoutName(target string) string {
	at, err := places.Parse(target)
	if err != nil {
		return target
	}
	at.Remote.Tag, at.Remote.Digest, at.Place.Name, at.Place.Digest = "", "", "", v1.Hash{}
	return at.String()
}

// An ageFlag is a duration in the syntax of the configuration file, with days and weeks.
// It implements [pflag.Value].
type ageFlag struct{ d time.Duration }

// String returns the duration as Go writes it, or "" if it is not set.
func (f *ageFlag) String() string {
	if f.d == 0 {
		return ""
	}
	return f.d.String()
}

func (f *ageFlag) Type() string { return "duration" }
func (f *ageFlag) Set(text string) error {
	return (*yamlconf.Duration)(&f.d).UnmarshalText([]byte(text))
}
