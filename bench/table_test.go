package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	assert.InDelta(t, 7, median([]float64{7}), 0)
	assert.InDelta(t, 1.5, median([]float64{2, 1}), 0)
	assert.InDelta(t, 3, median([]float64{100, 1, 3}), 0, "one value far out does not count")
	values := []float64{4, 1, 3, 2}
	assert.InDelta(t, 2.5, median(values), 0)
	assert.Equal(t, []float64{4, 1, 3, 2}, values, "the caller's order")
}

func TestTable(t *testing.T) {
	rows := []row{
		{"start", "ms", map[string]float64{"ours": 4, "crun 1": 6, "docker": 184.4}},
		{"starts", "/s", map[string]float64{"ours": 300, "crun 1": 150}},
		{"memory", "MB", map[string]float64{"docker": 3.44}},
	}
	assert.Equal(t, `| | ours | crun 1 | docker |
|---|--:|--:|--:|
| start | 4.0 ms | 6.0 ms (1.5) | 184 ms (46) |
| starts | 300/s | 150/s (2.0) | – |
| memory | – | – | 3.4 MB |
`, table([]string{"ours", "crun 1", "docker"}, rows))
}

func TestDigits(t *testing.T) {
	for value, text := range map[float64]string{0.456: "0.46", 0.996: "1.0", 1.04: "1.0", 9.94: "9.9", 9.96: "10", 1234.5: "1234"} {
		assert.Equal(t, text, digits(value))
	}
}

func TestReplace(t *testing.T) {
	const readme = "# Title\n\n<!-- bench -->\nold\n<!-- /bench -->\n\nText.\n"
	once, err := replace(readme, "| new |\n")
	require.NoError(t, err)
	assert.Equal(t, "# Title\n\n<!-- bench -->\n\n| new |\n\n<!-- /bench -->\n\nText.\n", once)
	twice, err := replace(once, "| new |\n")
	require.NoError(t, err)
	assert.Equal(t, once, twice)

	for _, bad := range []string{"# Title\n", "<!-- bench -->\n", "<!-- /bench -->\n<!-- bench -->\n"} {
		_, err := replace(bad, "| new |\n")
		assert.Error(t, err, bad)
	}
}
