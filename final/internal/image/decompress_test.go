//go:build linux

package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

var lines = []byte(strings.Repeat("a line\n", 100000))

func TestDecompress(t *testing.T) {
	for program, failure := range map[string]string{
		"gzip": "^(gzip|flate): .|^unexpected EOF$", "bzip2": "^bzip2 data invalid: .|^unexpected EOF$",
		"zstd": "^decompressing it with zstd: exit status [12]: .", "xz": "^decompressing it with xz: exit status [12]: .",
	} {
		whole := string(compressed(t, program, lines))
		stream, err := decompress(t.Context(), strings.NewReader(whole))
		require.NoError(t, err)
		output, err := io.ReadAll(stream)
		require.NoError(t, err)
		require.Equal(t, lines, output)
		_, err = stream.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, stream.Close())

		for what, broken := range map[string]string{
			"cut off": whole[:len(whole)-3],
			"changed": whole[:len(whole)/2] + "x" + whole[len(whole)/2+1:],
		} {
			stream, err := decompress(t.Context(), strings.NewReader(broken))
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, stream)
			require.Regexp(t, failure, err, what)
			require.NoError(t, stream.Close())
		}
	}
}

func TestDecompressGzipOfSeveralMembersAndPadding(t *testing.T) {
	whole := string(compressed(t, "gzip", lines))
	stream, err := decompress(t.Context(), strings.NewReader(whole+whole+strings.Repeat("\x00", 10240)))
	require.NoError(t, err)
	output, err := io.ReadAll(stream)
	require.NoError(t, err)
	require.Equal(t, string(lines)+string(lines), string(output))
	_, err = stream.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)

	stream, err = decompress(t.Context(), strings.NewReader(whole+"garbage"))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, stream)
	require.Error(t, err)
}

func TestDecompressFailsWithItsStream(t *testing.T) {
	for _, program := range []string{"gzip", "bzip2", "zstd", "xz"} {
		t.Run(program, func(t *testing.T) { failsWithItsStream(t, program) })
	}
}

func failsWithItsStream(t *testing.T, program string) {
	failure := errors.New("the cable is out")
	half := compressed(t, program, lines)
	half = half[:len(half)/2]
	stream, err := decompress(t.Context(), io.MultiReader(strings.NewReader(string(half)), iotest.ErrReader(failure)))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, stream)
	require.Equal(t, failure, err)

	ctx, cancel := context.WithCancel(t.Context())
	silent, writer, err := os.Pipe()
	require.NoError(t, err)
	defer silent.Close()
	defer writer.Close()
	_, err = writer.Write(half)
	require.NoError(t, err)
	stream, err = decompress(ctx, silent)
	require.NoError(t, err)
	cancel()
	_, err = io.Copy(io.Discard, stream)
	require.Equal(t, context.Canceled, err)
}

func TestDecompressIsEndedByClose(t *testing.T) {
	silent, writer, err := os.Pipe()
	require.NoError(t, err)
	defer silent.Close()
	defer writer.Close()
	_, err = writer.Write(compressed(t, "zstd", lines)[:50])
	require.NoError(t, err)
	stream, err := decompress(t.Context(), silent)
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, stream.Close())
	require.Less(t, time.Since(began), 10*time.Second)
	_, err = stream.Read(make([]byte, 1))
	require.Equal(t, fs.ErrClosed, err)
}

func TestDecompressWithoutTheProgram(t *testing.T) {
	data := string(compressed(t, "xz", lines))
	others := map[string]string{"gzip": string(compressed(t, "gzip", lines)), "bzip2": string(compressed(t, "bzip2", lines))}
	t.Setenv("PATH", t.TempDir())
	for name, data := range others {
		stream, err := decompress(t.Context(), strings.NewReader(data))
		require.NoError(t, err, name)
		output, err := io.ReadAll(stream)
		require.NoError(t, err, name)
		require.Equal(t, lines, output, name)
	}
	_, err := decompress(t.Context(), strings.NewReader(data))
	require.ErrorIs(t, err, exec.ErrNotFound)
	require.ErrorContains(t, err, `decompressing it: exec: "xz": executable file not found in $PATH`)
}
