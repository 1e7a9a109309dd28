package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strconv"
)

// monitor speaks QMP, QEMU's machine protocol, to a running machine.
type monitor struct {
	conn net.Conn
	in   *bufio.Reader
}

func dialMonitor(path string) (*monitor, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("the machine's monitor: %w", err)
	}
	m := &monitor{conn, bufio.NewReader(conn)}
	if _, err := m.in.ReadBytes('\n'); err != nil { // its greeting
		conn.Close()
		return nil, fmt.Errorf("the machine's monitor: %w", err)
	}
	if err := m.do("qmp_capabilities", nil, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

func (m *monitor) close() { m.conn.Close() }

// do executes a command and decodes what it returns into result, if that is not nil.
func (m *monitor) do(command string, arguments map[string]any, result any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for {
		line, err := m.in.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		var answer struct {
			Event  string
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		switch err := json.Unmarshal(line, &answer); {
		case err != nil:
			return fmt.Errorf("%s: %w", command, err)
		case answer.Event != "":
			continue
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", command, answer.Error.Desc)
		case result != nil:
			return json.Unmarshal(answer.Return, result)
		}
		return nil
	}
}

// status is what the machine does: "running", "paused", "suspended", ...
func (m *monitor) status() (string, error) {
	var s struct{ Status string }
	err := m.do("query-status", nil, &s)
	return s.Status, err
}

var cr3 = regexp.MustCompile(`CR3=([0-9a-f]+)`)

// pageTable is the physical address of the page table in use. Without KPTI, which is
// off here, every process's maps the kernel.
func (m *monitor) pageTable() (uint64, error) {
	var text string
	err := m.do("human-monitor-command", map[string]any{"command-line": "info registers"}, &text)
	if err != nil {
		return 0, err
	}
	match := cr3.FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("the monitor tells no CR3")
	}
	return strconv.ParseUint(match[1], 16, 64)
}
