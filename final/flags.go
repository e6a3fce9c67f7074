//go:build linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

// endFlags puts "--" before the first positional argument of a command that stops there
// (StopOnNthArg), so that what follows reaches the container byte for byte. Without it
// urfave/cli v3 swallows a "--" right behind that argument, and looks for flags again
// behind an empty one.
func endFlags(cmd *cli.Command, args []string) []string {
	for i := 1; i < len(args); i++ {
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		sub := cmd.Command(args[i])
		switch {
		case args[i] == "--":
			return args
		case sub != nil:
			cmd = sub
		case !strings.HasPrefix(args[i], "-") || args[i] == "-":
			if cmd.StopOnNthArg == nil {
				return args
			}
			return slices.Insert(slices.Clone(args), i, "--")
		case !hasValue && takesValue(cmd, name):
			i++
		}
	}
	return args
}

// explainUsage says in docker's words that there is no such flag.
func explainUsage(cmd *cli.Command, err error) error {
	name, isUnknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !isUnknown {
		return err
	}
	isLong := func(arg string) bool { return arg == "--"+name || strings.HasPrefix(arg, "--"+name+"=") }
	if slices.ContainsFunc(os.Args, isLong) {
		return fmt.Errorf("unknown flag: --%s", name)
	}
	for _, letter := range name {
		if findFlag(cmd, string(letter)) == nil {
			return fmt.Errorf("unknown shorthand flag: %q in -%s", letter, name)
		}
	}
	return err
}

// takesValue tells whether the flag, or the last one of a group as in -it, is followed by a value.
func takesValue(cmd *cli.Command, name string) bool {
	if flag := findFlag(cmd, name); flag != nil {
		_, isBool := flag.(*cli.BoolFlag)
		return !isBool
	}
	return len(name) > 1 && takesValue(cmd, name[len(name)-1:])
}

// findFlag returns the flag with that name, or nil.
func findFlag(cmd *cli.Command, name string) cli.Flag {
	for _, flag := range cmd.Flags {
		if slices.Contains(flag.Names(), name) {
			return flag
		}
	}
	return nil
}
