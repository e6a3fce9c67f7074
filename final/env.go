//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"
)

// parseEnv reads what was given to --env-file and -e, in this order: of two with the same name
// the later one counts. What is K alone is passed on from our own environment, if it is there.
func parseEnv(files, given []string) ([]string, error) {
	var env []string
	for _, name := range files {
		entries, err := readEnvFile(name)
		if err != nil {
			return nil, err
		}
		env = append(env, entries...)
	}
	for _, entry := range given {
		resolved, err := resolveEnv(entry)
		if err != nil {
			return nil, err
		}
		env = append(env, resolved...)
	}
	return env, nil
}

// byteOrderMark begins the files of some editors, in UTF-8.
const byteOrderMark = "\uFEFF"

// readEnvFile reads an entry a line. Lines that begin with # are comments.
func readEnvFile(name string) ([]string, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the environment: %w", err)
	}
	defer file.Close()
	var env []string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20) // no program can be given a longer entry
	for number := 1; lines.Scan(); number++ {
		line := lines.Text()
		if !utf8.ValidString(line) {
			return nil, fmt.Errorf("env file %s contains invalid utf8 bytes at line %d: %v", name, number, lines.Bytes())
		}
		if number == 1 {
			line = strings.TrimPrefix(line, byteOrderMark)
		}
		line = strings.TrimLeft(line, " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if key, _, _ := strings.Cut(line, "="); strings.ContainsAny(key, " \t") {
			return nil, fmt.Errorf("reading the environment from %s: variable '%s' contains whitespaces", name, key)
		}
		resolved, err := resolveEnv(line)
		if err != nil {
			return nil, fmt.Errorf("reading the environment from %s: %w", name, err)
		}
		env = append(env, resolved...)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the environment from %s: %w", name, err)
	}
	return env, nil
}

// resolveEnv returns the entry, or nothing if it is a name alone that we have no value for.
func resolveEnv(entry string) ([]string, error) {
	name, _, hasValue := strings.Cut(entry, "=")
	if name == "" {
		return nil, fmt.Errorf("invalid environment variable: %s", entry)
	}
	if hasValue {
		return []string{entry}, nil
	}
	if value, found := os.LookupEnv(name); found {
		return []string{name + "=" + value}, nil
	}
	return nil, nil
}
