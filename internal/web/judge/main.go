// Judge loads pages in Chromium and says what is wrong with them. It is a module of its
// own, so that the driver of the browser is no dependency of mabuild.
//
//	judge [-golden FILE [-update]] [-shots DIR] NAME=URL…
//
// Each page is loaded in light and in dark, at 360 and at 1280 pixels, and as it is
// printed on A4. It must answer with
// status 200, log nothing to the console, break no policy, not be wider than the window,
// and have text with a contrast of 4.5 (WCAG 2.2, 1.4.3). A screenshot must have the colour
// of the page in its corner, and a height that differs by at most tolerance from that in
// the golden file.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// rules returns what is wrong with the document that is loaded, as a list of texts.
//
//go:embed rules.js
var rules string

// tolerance is how much the height of a page may differ from the golden one, in pixels:
// less than a line of text.
const tolerance = 16

// A view is a way in which a page is looked at.
type view struct {
	scheme string
	width  int64
	corner color.RGBA // of the page
}

var views = []view{
	{"light", 360, color.RGBA{0xfa, 0xfa, 0xf8, 0xff}},
	{"light", 1280, color.RGBA{0xfa, 0xfa, 0xf8, 0xff}},
	{"dark", 360, color.RGBA{0x12, 0x15, 0x18, 0xff}},
	{"dark", 1280, color.RGBA{0x12, 0x15, 0x18, 0xff}},
	{"print", 718, color.RGBA{0xff, 0xff, 0xff, 0xff}}, // A4 without its margins
}

func main() {
	golden := flag.String("golden", "", "compare the heights with those in `FILE`")
	update := flag.Bool("update", false, "write the golden file")
	shots := flag.String("shots", "", "write screenshots to `DIR`")
	flag.Parse()
	ctx, stop := browser(context.Background())
	defer stop()
	// The first call starts the browser, which lives as long as the context of that call.
	if err := chromedp.Do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing was started
	}
	problems, err := run(ctx, flag.Args(), *golden, *update, *shots)
	if err != nil {
		problems = append(problems, err.Error())
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	if len(problems) > 0 {
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// browser starts Chromium with an empty profile. It has no network beyond what the pages
// ask for.
func browser(ctx context.Context) (context.Context, func()) {
	options := []chromedp.ExecAllocatorOption{
		chromedp.NoSandbox, chromedp.Headless, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.DisableGPU,
	}
	for _, name := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "hide-scrollbars"} {
		options = append(options, chromedp.Flag(name, true))
	}
	allocated, end := chromedp.NewExecAllocator(ctx, options...)
	tab, closeTab := chromedp.NewContext(allocated)
	return tab, sync.OnceFunc(func() { closeTab(); end() })
}

// run judges all pages in all views and returns what is wrong.
func run(ctx context.Context, pages []string, golden string, update bool, shots string) (problems []string, err error) {
	if len(pages) == 0 {
		return nil, errors.New("no page is given")
	}
	heights := map[string]int{}
	var lines []string
	if golden != "" && !update {
		raw, err := os.ReadFile(golden)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(raw)) {
			var name, scheme string
			var width, height int
			if _, err := fmt.Sscan(line, &name, &scheme, &width, &height); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", golden, line, err)
			}
			heights[fmt.Sprint(name, " ", scheme, " ", width)] = height
		}
	}
	for _, arg := range pages {
		name, url, ok := strings.Cut(arg, "=")
		if !ok {
			return problems, fmt.Errorf("%q is not NAME=URL", arg)
		}
		for _, v := range views {
			key := fmt.Sprint(name, " ", v.scheme, " ", v.width)
			found, shot, err := judge(ctx, url, v)
			if err != nil {
				return problems, fmt.Errorf("%s: %w", key, err)
			}
			height, wrong := measure(shot, v)
			found = append(found, wrong...)
			if want, known := heights[key]; golden != "" && !update && (!known || max(height-want, want-height) > tolerance) {
				found = append(found, fmt.Sprintf("the page is %d pixels high, and the golden one %d", height, want))
			}
			lines = append(lines, fmt.Sprint(key, " ", height))
			for _, one := range found {
				problems = append(problems, key+": "+one)
			}
			if shots != "" {
				file := filepath.Join(shots, strings.ReplaceAll(key, " ", "-")+".png")
				if err := os.WriteFile(file, small(shot), 0o644); err != nil {
					return problems, err
				}
			}
		}
	}
	if update {
		slices.Sort(lines)
		return problems, os.WriteFile(golden, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
	}
	return problems, nil
}

// measure returns the height of a screenshot, and what is wrong with its pixels.
func measure(shot []byte, v view) (height int, wrong []string) {
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return 0, []string{"the screenshot: " + err.Error()}
	}
	size := img.Bounds().Size()
	if int64(size.X) != v.width {
		wrong = append(wrong, fmt.Sprintf("the screenshot is %d pixels wide", size.X))
	}
	if is := color.RGBAModel.Convert(img.At(0, 0)); is != v.corner {
		wrong = append(wrong, fmt.Sprintf("the corner is %v and not %v: the stylesheet does not apply", is, v.corner))
	}
	return size.Y, wrong
}

// small returns a picture with at most 256 colours, the most frequent ones, in as few bytes
// as possible.
func small(shot []byte) []byte {
	img, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		return shot
	}
	area, counts := img.Bounds(), map[color.RGBA]int{}
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(img.At(x, y)).(color.RGBA) }
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			counts[at(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(counts), func(a, b color.RGBA) int { return counts[b] - counts[a] })
	var palette color.Palette
	for _, c := range colours[:min(len(colours), 256)] {
		palette = append(palette, c)
	}
	known, out := map[color.RGBA]uint8{}, image.NewPaletted(area, palette)
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			c := at(x, y)
			index, ok := known[c]
			if !ok {
				index = uint8(palette.Index(c)) //nolint:gosec // there are 256 at most
				known[c] = index
			}
			out.SetColorIndex(x, y, index)
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, out); err != nil {
		return shot
	}
	return b.Bytes()
}

// judge loads a page and returns what is wrong with it, and a screenshot of all of it.
func judge(ctx context.Context, url string, v view) (problems []string, shot []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tab, closeTab := chromedp.NewContext(ctx)
	defer closeTab()
	var mu sync.Mutex
	add := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	err = chromedp.Listen(tab, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			add("the console has a message of type %s", e.Type)
		case *runtime.EventExceptionThrown:
			add("an exception: %s", e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			add("the log has: %s %s", e.Entry.Text, e.Entry.URL)
		case *audits.EventIssueAdded:
			add("an issue: %s", e.Issue.Code)
		case *network.EventResponseReceived:
			if e.Response.Status != 200 && !strings.HasPrefix(e.Response.URL, "file:") {
				add("%s has status %d", e.Response.URL, e.Response.Status)
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	prepare := func(ctx context.Context, t *chromedp.Target) error {
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: v.scheme}}}
		if v.scheme == "print" {
			media = emulation.SetEmulatedMediaParams{Media: v.scheme}
		}
		size := emulation.SetDeviceMetricsOverrideParams{Width: v.width, Height: 800, DeviceScaleFactor: 1, Mobile: v.width < 600}
		return errors.Join(
			call(ctx, t, network.Enable, network.EnableParams{}), call(ctx, t, log.Enable, cdp.Empty{}), call(ctx, t, audits.Enable, cdp.Empty{}),
			call(ctx, t, emulation.SetEmulatedMedia, media), call(ctx, t, emulation.SetDeviceMetricsOverride, size),
		)
	}
	if err := chromedp.Do(tab, chromedp.Func(prepare), chromedp.Navigate(url)); err != nil {
		return nil, nil, err
	}
	found, err := chromedp.Run(tab, chromedp.Evaluate[[]string](rules))
	if err == nil {
		shot, err = chromedp.Run(tab, chromedp.FullScreenshot(100))
	}
	mu.Lock()
	defer mu.Unlock()
	return append(slices.Clone(problems), found...), shot, err
}

// call sends a command whose answer does not matter.
func call[P, R any](ctx context.Context, t *chromedp.Target, c cdp.Command[P, R], params P) error {
	_, err := cdp.Call(ctx, t, c, params)
	return err
}
