//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/urfave/cli/v3"
)

func TestEndFlags(t *testing.T) {
	app := newApp(nil)
	run := app.Command("run")
	run.Flags = append(run.Flags, &cli.StringFlag{Name: "size", Aliases: []string{"s"}})

	for given, want := range map[string]string{
		"mydocker":                       "mydocker",
		"mydocker run ls -l":             "mydocker run -- ls -l",
		"mydocker run -it ls -l":         "mydocker run -it -- ls -l",
		"mydocker --debug run -i -t ls":  "mydocker --debug run -i -t -- ls",
		"mydocker run -s 6 ls -s 7":      "mydocker run -s 6 -- ls -s 7",
		"mydocker run --size 6 ls":       "mydocker run --size 6 -- ls",
		"mydocker run --size=6 ls":       "mydocker run --size=6 -- ls",
		"mydocker run -its 6 ls":         "mydocker run -its 6 -- ls",
		"mydocker run -s6 ls -s7":        "mydocker run -s 6 -- ls -s7",
		"mydocker run -its=6 ls":         "mydocker run -its 6 -- ls",
		"mydocker run -net=none ls":      "mydocker run -net=none -- ls",
		"mydocker stop box -t1":          "mydocker stop box -t 1",
		"mydocker run - -i":              "mydocker run -- - -i",
		"mydocker run ls -- -i":          "mydocker run -- ls -- -i",
		"mydocker run -i -- ls -i":       "mydocker run -i -- ls -i",
		"mydocker run -i":                "mydocker run -i",
		"mydocker run -s":                "mydocker run -s",
		"mydocker no-such-command ls -i": "mydocker no-such-command ls -i",
	} {
		assert.Equal(t, strings.Fields(want), endFlags(app, strings.Fields(given)), given)
	}
	assert.Equal(t, []string{"mydocker", "run", "--", "", "-i"}, endFlags(app, []string{"mydocker", "run", "", "-i"}))
}
