package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// row is a line of the table.
type row struct {
	title   string
	unit    string             // ms, MB, or /s, of which more is better
	medians map[string]float64 // by the name of the peer
}

// median returns what half of the values are not above, of which there has to be one.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// table returns the rows in Markdown, with a column for each name. The first one's is what the
// others are compared with.
func table(names []string, rows []row) string {
	var b strings.Builder
	b.WriteString("| | " + strings.Join(names, " | ") + " |\n|---|" + strings.Repeat("--:|", len(names)) + "\n")
	for _, r := range rows {
		b.WriteString(line(names, r))
	}
	return b.String()
}

func line(names []string, r row) string {
	cells := []string{r.title}
	for _, name := range names {
		cells = append(cells, r.cell(name, names[0]))
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// cell says what was measured, and how many times as bad as the first one's that is.
func (r row) cell(name, first string) string {
	value, found := r.medians[name]
	if !found {
		return "–"
	}
	text := digits(value) + " " + r.unit
	if r.unit == "/s" {
		text = digits(value) + r.unit
	}
	reference, found := r.medians[first]
	if name == first || !found {
		return text
	}
	times := value / reference
	if r.unit == "/s" {
		times = 1 / times
	}
	return fmt.Sprintf("%s (%s)", text, digits(times))
}

// digits writes a number with two digits, or all of those in front of the point.
func digits(value float64) string {
	if value >= 9.95 {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	if value >= 0.995 {
		return strconv.FormatFloat(value, 'f', 1, 64)
	}
	return strconv.FormatFloat(value, 'f', 2, 64)
}

// conditions says how all that was measured.
func conditions() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	groups := 1
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		groups = 2
	}
	return fmt.Sprintf("Measured by `make bench` with %d processors, Linux %s, cgroup v%d: medians of 3 to 20 runs, all runtimes taking turns. "+
		"In parentheses: how many times as long, or as much, as ours. Hot is the mean of %d back to back, cold after %v of idling.\n",
		runtime.NumCPU(), strings.TrimSpace(string(kernel)), groups, rowLength, idle)
}

// The lines of a README that the table stands between.
const (
	begin = "<!-- bench -->\n"
	end   = "<!-- /bench -->\n"
)

// keep writes the table into a README.
func keep(readme, text string) error {
	content, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("reading a README: %w", err)
	}
	updated, err := replace(string(content), text)
	if err != nil {
		return fmt.Errorf("%s: %w", readme, err)
	}
	if err := os.WriteFile(readme, []byte(updated), 0o644); err != nil {
		return fmt.Errorf("writing a README: %w", err)
	}
	return nil
}

// replace puts the text between the two lines.
func replace(content, text string) (string, error) {
	before, rest, found := strings.Cut(content, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", errors.New("there are no lines <!-- bench --> and <!-- /bench --> for the table")
	}
	return before + begin + "\n" + text + "\n" + end + after, nil
}
