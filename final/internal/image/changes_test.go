package image

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lixd/mydocker/final/internal/oci"
)

func TestApplyChanges(t *testing.T) {
	base := func() oci.ImageConfig {
		return oci.ImageConfig{Env: []string{"PATH=/bin", "A=1"}, Cmd: []string{"old"}, WorkingDir: "/srv", Labels: map[string]string{"a": "b"}}
	}
	for _, c := range []struct {
		changes string
		want    func(c *oci.ImageConfig)
	}{
		{`CMD ["a", "b c"]`, func(c *oci.ImageConfig) { c.Cmd = []string{"a", "b c"} }},
		{`cmd echo $A "x"`, func(c *oci.ImageConfig) { c.Cmd = []string{"/bin/sh", "-c", `echo $A "x"`} }},
		{`CMD []`, func(c *oci.ImageConfig) { c.Cmd = []string{} }},
		{`ENTRYPOINT ["e"]`, func(c *oci.ImageConfig) { c.Entrypoint, c.Cmd = []string{"e"}, nil }},
		{"ENTRYPOINT [\"e\"]\x01CMD [\"c\"]", func(c *oci.ImageConfig) { c.Entrypoint, c.Cmd = []string{"e"}, []string{"c"} }},
		{`ENV A=2 B="x y" C=p\ q D='$A' E=${A}z F=$`, func(c *oci.ImageConfig) {
			c.Env = []string{"PATH=/bin", "A=2", "B=x y", "C=p q", "D=$A", "E=1z", "F=$"}
		}},
		{`ENV PATH=$PATH:/sbin`, func(c *oci.ImageConfig) { c.Env = []string{"A=1", "PATH=/bin:/sbin"} }},
		{`ENV B x y`, func(c *oci.ImageConfig) { c.Env = append(c.Env, "B=x y") }},
		{`EXPOSE 80 53/udp 8000-8001`, func(c *oci.ImageConfig) {
			c.ExposedPorts = map[string]struct{}{"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}}
		}},
		{`LABEL a=c "d e"=f`, func(c *oci.ImageConfig) { c.Labels = map[string]string{"a": "c", "d e": "f"} }},
		{`USER nobody:1`, func(c *oci.ImageConfig) { c.User = "nobody:1" }},
		{`VOLUME /a /b`, func(c *oci.ImageConfig) { c.Volumes = map[string]struct{}{"/a": {}, "/b": {}} }},
		{`VOLUME ["/a b"]`, func(c *oci.ImageConfig) { c.Volumes = map[string]struct{}{"/a b": {}} }},
		{`WORKDIR x/../y`, func(c *oci.ImageConfig) { c.WorkingDir = "/srv/y" }},
		{` workdir	/z/ `, func(c *oci.ImageConfig) { c.WorkingDir = "/z" }},
		{`STOPSIGNAL SIGINT`, func(c *oci.ImageConfig) { c.StopSignal = "SIGINT" }},
	} {
		got, want := base(), base()
		require.NoError(t, applyChanges(&got, strings.Split(c.changes, "\x01")), c.changes)
		c.want(&want)
		require.ElementsMatch(t, want.Env, got.Env, c.changes)
		want.Env, got.Env = nil, nil
		require.Equal(t, want, got, c.changes)
	}
	for change, message := range map[string]string{
		"":                 `"" is not a valid change command`,
		"RUN x":            `"RUN" is not a valid change command (these are: CMD ENTRYPOINT ENV EXPOSE LABEL STOPSIGNAL USER VOLUME WORKDIR)`,
		"CMD":              "CMD requires at least one argument",
		"ENV A":            "ENV: A must have a value",
		"ENV =x":           `ENV: can't find = in "=x"`,
		"ENV A=1 B":        `ENV: can't find = in "B"`,
		`ENV A="x`:         "ENV: unexpected end of",
		"EXPOSE x":         "EXPOSE: invalid containerPort: x",
		"EXPOSE 0":         "EXPOSE: invalid containerPort: 0",
		"EXPOSE 90-80":     "EXPOSE: invalid containerPort: 90-80",
		"EXPOSE 65536":     "EXPOSE: invalid containerPort: 65536",
		"EXPOSE 80/icmp":   "EXPOSE: invalid proto: icmp",
		"USER a b":         `USER: requires exactly one argument, not "a b"`,
		`VOLUME [""]`:      "VOLUME: the path of a volume is empty",
		"WORKDIR $MISSING": `WORKDIR: requires exactly one argument, not "$MISSING"`,
	} {
		c := base()
		require.ErrorContains(t, applyChanges(&c, []string{change}), message)
	}
}

// FuzzApplyChanges holds that no instruction panics, and that every variable has a name.
func FuzzApplyChanges(f *testing.F) {
	for _, seed := range []string{`CMD ["a"]`, `ENV A=$B C="${D}" E='f'`, "EXPOSE 1-65535/udp", `VOLUME ["/a"]`, "WORKDIR ..", `LABEL "a b"=c`, `ENV $=${`, `USER \`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, change string) {
		c := oci.ImageConfig{Env: []string{"B=1"}}
		if applyChanges(&c, []string{change}) != nil {
			return
		}
		for _, variable := range c.Env {
			name, _, found := strings.Cut(variable, "=")
			require.True(t, found)
			require.NotEmpty(t, name)
		}
		require.True(t, c.WorkingDir == "" || strings.HasPrefix(c.WorkingDir, "/"))
	})
}
