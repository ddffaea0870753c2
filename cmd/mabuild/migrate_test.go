package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// rows are the rows of a Markdown text's tables: the words in backquotes of the
// first column, and the second as it is.
func rows(text string) (list []struct {
	theirs []string
	ours   string
},
) {
	for line := range strings.Lines(text) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) < 2 {
			continue
		}
		list = append(list, struct {
			theirs []string
			ours   string
		}{quotedWords(cells[0]), cells[1]})
	}
	return list
}

// quotedWords are the words of a text in backquotes.
func quotedWords(text string) (words []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		words = append(words, m[1])
	}
	return words
}

// allFlags has the names of all flags of all commands, the short ones with one dash.
func allFlags() map[string]bool {
	known := map[string]bool{"--help": true, "-h": true}
	note := func(f *pflag.Flag) {
		known["--"+f.Name], known["-"+f.Shorthand] = true, f.Shorthand != ""
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(note)
		cmd.PersistentFlags().VisitAll(note)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&app{}))
	known["--platform"] = known["--platforms"] // one name for both, made of the other
	return known
}

// docs/migrate-ko.md covers all flags of ko, and the flags that it names for mabuild exist.
func TestMigrateKo(t *testing.T) {
	text, err := os.ReadFile("../../docs/migrate-ko.md")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("../../testdata/ko/flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	var theirs []string
	var ours strings.Builder
	for _, row := range rows(string(text)) {
		for _, word := range row.theirs {
			if strings.HasPrefix(word, "ko ") { // its flags stand in the row as well
				word = strings.Join(strings.Fields(word)[:2], " ")
			}
			theirs = append(theirs, word)
		}
		if strings.TrimSpace(row.ours) == "" {
			t.Errorf("%v has no counterpart and no reason", row.theirs)
		}
		ours.WriteString(row.ours + "\n")
	}
	asked := 0
	for line := range strings.Lines(string(list)) {
		if word := strings.TrimSpace(line); word != "" && !strings.HasPrefix(word, "#") {
			asked++
			if !slices.Contains(theirs, word) {
				t.Errorf("ko has %s, and no row speaks of it", word)
			}
		}
	}
	if asked < 70 {
		t.Errorf("ko's list has %d lines only", asked)
	}
	known := allFlags()
	for _, flag := range regexp.MustCompile(`(^|[\s\x60])(--?[a-zA-Z][a-z-]*)`).FindAllStringSubmatch(ours.String(), -1) {
		if !known[flag[2]] && !slices.Contains([]string{"-s", "-w", "-mod", "-tags", "-p", "-trimpath", "-X", "-dirty", "--push"}, flag[2]) {
			t.Errorf("mabuild has no flag %s", flag[2])
		}
	}
}
