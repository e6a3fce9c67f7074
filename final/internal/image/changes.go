package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/lixd/mydocker/final/internal/oci"
)

// instructions are those of a Dockerfile that change nothing but the configuration. Each is
// given what follows its name.
var instructions = map[string]func(c *oci.ImageConfig, rest string) error{
	"CMD":        setCmd,
	"ENTRYPOINT": setEntrypoint,
	"ENV":        setEnv,
	"EXPOSE":     setExposed,
	"LABEL":      setLabels,
	"STOPSIGNAL": setStopSignal,
	"USER":       setUser,
	"VOLUME":     setVolumes,
	"WORKDIR":    setWorkingDir,
}

// applyChanges carries out the instructions given to commit and import with -c. See
// https://docs.docker.com/reference/dockerfile/.
func applyChanges(c *oci.ImageConfig, changes []string) error {
	var hasCmd, hasEntrypoint bool
	for _, change := range changes {
		change = strings.TrimSpace(change)
		name, rest := change, ""
		if blank := strings.IndexAny(change, " \t\n"); blank >= 0 {
			name, rest = change[:blank], strings.TrimSpace(change[blank:])
		}
		name = strings.ToUpper(name)
		apply, known := instructions[name]
		if !known {
			return fmt.Errorf("%s is not a valid change command (these are: %s)", strconv.Quote(name),
				strings.Join(slices.Sorted(maps.Keys(instructions)), " "))
		}
		if rest == "" {
			return fmt.Errorf("%s requires at least one argument", name)
		}
		if err := apply(c, rest); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		hasCmd = hasCmd || name == "CMD"
		hasEntrypoint = hasEntrypoint || name == "ENTRYPOINT"
	}
	if hasEntrypoint && !hasCmd {
		c.Cmd = nil // it was an argument of the program before
	}
	return nil
}

// command is an instruction's argument as an array in JSON, or else as a line for the shell.
func command(rest string) []string {
	var words []string
	if json.Unmarshal([]byte(rest), &words) == nil {
		return words
	}
	return []string{"/bin/sh", "-c", rest}
}

func setCmd(c *oci.ImageConfig, rest string) error {
	c.Cmd = command(rest)
	return nil
}

func setEntrypoint(c *oci.ImageConfig, rest string) error {
	c.Entrypoint = command(rest)
	return nil
}

// setEnv understands NAME=VALUE, as often as you like, and NAME VALUE.
func setEnv(c *oci.ImageConfig, rest string) error {
	pairs, err := keysAndValues(rest, c.Env)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		c.Env = slices.DeleteFunc(slices.Clone(c.Env), func(old string) bool {
			return strings.HasPrefix(old, pair[0]+"=")
		})
		c.Env = append(c.Env, pair[0]+"="+pair[1])
	}
	return nil
}

func setLabels(c *oci.ImageConfig, rest string) error {
	pairs, err := keysAndValues(rest, c.Env)
	if err != nil {
		return err
	}
	c.Labels = cloneOrMake(c.Labels)
	for _, pair := range pairs {
		c.Labels[pair[0]] = pair[1]
	}
	return nil
}

// setExposed understands PORT, FROM-TO, and each of them with /PROTOCOL.
func setExposed(c *oci.ImageConfig, rest string) error {
	ports, err := splitWords(rest, c.Env)
	if err != nil {
		return err
	}
	c.ExposedPorts = cloneOrMake(c.ExposedPorts)
	for _, port := range ports {
		numbers, protocol, found := strings.Cut(port, "/")
		if !found {
			protocol = "tcp"
		}
		if !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
			return fmt.Errorf("invalid proto: %s", protocol)
		}
		from, to, found := strings.Cut(numbers, "-")
		if !found {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if errors.Join(err, err2) != nil || first == 0 || first > last {
			return fmt.Errorf("invalid containerPort: %s", port)
		}
		for n := first; n <= last; n++ {
			c.ExposedPorts[fmt.Sprintf("%d/%s", n, protocol)] = struct{}{}
		}
	}
	return nil
}

func setStopSignal(c *oci.ImageConfig, rest string) (err error) {
	c.StopSignal, err = oneWord(rest, c.Env)
	return err
}

func setUser(c *oci.ImageConfig, rest string) (err error) {
	c.User, err = oneWord(rest, c.Env)
	return err
}

// setVolumes understands an array in JSON, and words.
func setVolumes(c *oci.ImageConfig, rest string) error {
	var volumes []string
	if json.Unmarshal([]byte(rest), &volumes) != nil {
		var err error
		if volumes, err = splitWords(rest, c.Env); err != nil {
			return err
		}
	}
	c.Volumes = cloneOrMake(c.Volumes)
	for _, volume := range volumes {
		if strings.TrimSpace(volume) == "" {
			return errors.New("the path of a volume is empty")
		}
		c.Volumes[volume] = struct{}{}
	}
	return nil
}

// setWorkingDir takes a relative path as one from the directory so far.
func setWorkingDir(c *oci.ImageConfig, rest string) error {
	dir, err := oneWord(rest, c.Env)
	if err != nil {
		return err
	}
	if !path.IsAbs(dir) {
		dir = path.Join("/", c.WorkingDir, dir)
	}
	c.WorkingDir = path.Clean(dir)
	return nil
}

func cloneOrMake[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}

func oneWord(rest string, env []string) (string, error) {
	words, err := splitWords(rest, env)
	if err != nil {
		return "", err
	}
	if len(words) != 1 || words[0] == "" {
		return "", fmt.Errorf("requires exactly one argument, not %q", rest)
	}
	return words[0], nil
}

// keysAndValues splits KEY=VALUE KEY=VALUE..., or else KEY VALUE, where the value is all the rest.
func keysAndValues(rest string, env []string) (pairs [][2]string, err error) {
	key, value, _ := strings.Cut(rest, " ")
	if !strings.Contains(key, "=") {
		words, err := splitWords(value, env)
		if err != nil || len(words) == 0 {
			return nil, errors.Join(err, fmt.Errorf("%s must have a value", key))
		}
		return [][2]string{{key, strings.Join(words, " ")}}, nil
	}
	words, err := splitWords(rest, env)
	if err != nil {
		return nil, err
	}
	for _, word := range words {
		key, value, found := strings.Cut(word, "=")
		if key == "" || !found {
			return nil, fmt.Errorf("can't find = in %q: it must be NAME=VALUE", word)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

// splitWords splits at blanks as a shell does: quotes and backslashes keep blanks in a word, and
// $NAME and ${NAME} outside single quotes are the image's variables.
func splitWords(line string, env []string) (words []string, err error) {
	var word strings.Builder
	var quote byte
	inWord := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && strings.IndexByte(" \t\n", c) >= 0:
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inWord = true
		case c == '$' && quote != '\'':
			length := variableLen(line[i:])
			word.WriteString(os.Expand(line[i:i+length], func(name string) string { return lookup(env, name) }))
			i += length - 1
			inWord = true
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("unexpected end of %q while looking for a matching %c", line, quote)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// variableLen returns how many bytes of s, which begins with $, name a variable. Alone, the $
// stands for itself, and os.Expand leaves it.
func variableLen(s string) int {
	if strings.HasPrefix(s, "${") {
		if end := strings.IndexByte(s, '}'); end > 0 {
			return end + 1
		}
	}
	length := 1
	for length < len(s) && strings.IndexByte(letters+digits+"_", s[length]) >= 0 {
		length++
	}
	return length
}

func lookup(env []string, name string) string {
	for _, variable := range env {
		if value, found := strings.CutPrefix(variable, name+"="); found {
			return value
		}
	}
	return ""
}
