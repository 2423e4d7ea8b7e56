package main

import "fmt"

// target is a bar for the ratio of two measurements.
type target struct {
	of, to string
	limit  float64
	least  bool // the ratio has to be at least the limit, otherwise at most
}

// targets returns the targets for a file of the section's size.
func (s *section) targets() []target {
	if s.Bytes < smallFile {
		return []target{{of: migrate, to: baselineWire, limit: 2}}
	}
	most := 1.4
	if s.Bytes > 500_000_000 { // what does not depend on the number of rows weighs less
		most = 1.3
	}
	all := []target{
		{of: migrate, to: s.baseline(), limit: most},
		{of: migrateCounts, to: s.baseline(), limit: 1.12},
		{of: migrate, to: migrateSkip, limit: 1.03},
		{of: verify, to: migrate, limit: 0.5},
		{of: restore, to: migrate, limit: 1.1},
	}
	for _, other := range []string{pipe, pgloader, pgloaderFew, ogr2ogr} {
		all = append(all, target{of: other, to: migrate, limit: 1, least: true})
	}
	return all
}

// targetsText returns the table of the targets whose measurements exist.
func (s *section) targetsText() string {
	rows := [][]string{{"ratio", "target", "measured", ""}}
	add := func(what, limit, measured string, met bool) {
		verdict := "met"
		if !met {
			verdict = "**not met**"
		}
		rows = append(rows, []string{what, limit, measured, verdict})
	}
	for _, t := range s.targets() {
		if s.result(t.of).Missing != "" || s.result(t.to).Missing != "" {
			continue
		}
		ratio, sign := s.ratio(t.of, t.to), "≤"
		met := ratio <= t.limit
		if t.least {
			sign, met = "≥", ratio >= t.limit
		}
		add(t.of+" / "+t.to, fmt.Sprintf("%s %.2f", sign, t.limit), fmt.Sprintf("%.2f", ratio), met)
	}
	var peak int64
	for _, name := range []string{migrate, migrateCounts, migrateSkip, verify, restore} {
		peak = max(peak, s.result(name).Peak())
	}
	for _, g := range s.Growth {
		peak = max(peak, g.Peak)
	}
	add("peak memory of flujo-port", "≤ 64 MiB", mib(peak)+" MiB", peak <= 64<<20)
	return markdown(rows)
}
