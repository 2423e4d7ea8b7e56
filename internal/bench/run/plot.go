package main

import (
	"bytes"
	_ "embed"
	"math"
	"text/template"
)

//go:embed benchmarks.svg.tmpl
var plotText string

// Measures of the plot, in pixels.
const (
	plotLeft   = 340 // where the bars begin
	plotWidth  = 340 // of the longest bar
	plotLine   = 24
	plotHeader = 44
)

// panel is the plot of one section.
type panel struct {
	Title string
	Y     int
	Bars  []plotBar
}

// plotBar is a median, with a line from the fastest to the slowest run.
type plotBar struct {
	Label, Value, Color string
	Y                   int
	Width, Min, Max     float64
}

// plot draws a horizontal bar for each median.
func (d *document) plot() ([]byte, error) {
	var panels []panel
	y := 0
	for _, s := range d.Sections {
		p := panel{Title: s.Title(), Y: y}
		longest := 0.0
		for _, r := range s.Results {
			if r.Missing == "" {
				longest = max(longest, r.extreme(math.Max))
			}
		}
		y += plotHeader
		for _, r := range s.Results {
			if r.Missing != "" {
				continue
			}
			at := func(seconds float64) float64 { return seconds / longest * plotWidth }
			p.Bars = append(p.Bars, plotBar{
				Label: r.Name,
				Value: seconds(r.Seconds()) + " s",
				Color: color(r.Name),
				Y:     y,
				Width: at(r.Seconds()),
				Min:   plotLeft + at(r.extreme(math.Min)),
				Max:   plotLeft + at(r.extreme(math.Max)),
			})
			y += plotLine
		}
		panels = append(panels, p)
	}
	var text bytes.Buffer
	functions := template.FuncMap{"add": func(a, b int) int { return a + b }}
	err := template.Must(template.New("").Funcs(functions).Parse(plotText)).Execute(&text, map[string]any{
		"Left":   plotLeft,
		"Width":  plotLeft + plotWidth + 80,
		"Height": y + 16,
		"Panels": panels,
	})
	return text.Bytes(), err
}

func color(name string) string {
	switch name {
	case migrate, migrateCounts, migrateSkip, verify, restore:
		return "#2b6cb0"
	case baselineLZ4, baselinePGLZ, baselineSent, baselineWire:
		return "#4a5568"
	}
	return "#cbd5e0"
}
