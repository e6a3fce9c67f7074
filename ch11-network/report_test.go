//go:build linux

package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReport(t *testing.T) {
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{exitError{status: 3}, 3},
		{errors.New("failed"), statusFailed},
		{exitError{status: 127, err: errors.New("not found")}, 127},
		{fmt.Errorf("running: %w", exitError{status: 126, err: errors.New("not executable")}), 126},
		{errors.Join(exitError{status: 3}, errors.New("undoing failed too")), 3},
	} {
		assert.Equal(t, test.want, report(test.err), "%v", test.err)
	}
}
