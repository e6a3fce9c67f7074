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
// behind an empty one. And it takes values off the short flags that they are written on.
func endFlags(cmd *cli.Command, args []string) []string {
	args = slices.Clone(args)
	for i := 1; i < len(args); i++ {
		if flags, value, found := splitFlag(cmd, args[i]); found {
			args = slices.Replace(args, i, i+1, flags, value)
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		sub := cmd.Command(args[i])
		switch {
		case args[i] == "--":
			return args
		case sub != nil:
			cmd = sub
		case !strings.HasPrefix(args[i], "-") || args[i] == "-":
			if cmd.StopOnNthArg != nil {
				return slices.Insert(args, i, "--")
			}
		case !hasValue && takesValue(cmd, name):
			i++
		}
	}
	return args
}

// splitFlag finds a value that is written on a short flag, as in -p80:80 or -itm64m. What is a flag
// as a whole, as -net and -mem are, has none.
func splitFlag(cmd *cli.Command, arg string) (flags, value string, found bool) {
	name, _, _ := strings.Cut(arg, "=")
	if !strings.HasPrefix(arg, "-") || strings.HasPrefix(arg, "--") || findFlag(cmd, name[1:]) != nil {
		return "", "", false
	}
	for i := 1; i < len(arg)-1; i++ {
		letter := arg[i : i+1]
		if takesValue(cmd, letter) {
			return arg[:i+1], strings.TrimPrefix(arg[i+1:], "="), true
		}
		if findFlag(cmd, letter) == nil {
			return "", "", false
		}
	}
	return "", "", false
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
