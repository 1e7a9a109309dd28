package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// command is what the help of tokenfs says.
type command struct {
	version  string
	main     string // tokenfs help
	settings string
	codes    string
	verbs    []verb
}

type verb struct {
	name, does string
	help       string
	flags      []flag
}

// A flag has the values that its usage lists, or a name for them.
type flag struct {
	long, short string
	value       string // "", or as in the usage: SIZE, auto|on|off
	does        string
}

func (f flag) choices() []string {
	if strings.Contains(f.value, "|") {
		return strings.Split(f.value, "|")
	}
	return nil
}

func (f flag) isPath() bool { return f.value == "DIR" || f.value == "FILE" }

// ask reads all of a program's help.
func ask(program string) (c command, err error) {
	version, err := exec.Command(program, "version").Output()
	if err != nil {
		return c, fmt.Errorf("%s version: %w", program, err)
	}
	if words := strings.Fields(string(version)); len(words) > 1 {
		c.version = words[1]
	}
	for topic, text := range map[string]*string{"": &c.main, "settings": &c.settings, "exit-codes": &c.codes} {
		args := []string{topic}
		if topic == "" {
			args = nil
		}
		if *text, err = help(program, args...); err != nil {
			return c, err
		}
	}
	for _, item := range items(c.main) {
		v := verb{name: item.what, does: item.text}
		if v.help, err = help(program, v.name); err != nil {
			return c, err
		}
		v.flags = flags(v.help)
		c.verbs = append(c.verbs, v)
	}
	if len(c.verbs) == 0 {
		return c, fmt.Errorf("%s help names no commands", program)
	}
	return c, nil
}

// An item is a line that stands out, two spaces in, with what belongs to it.
type item struct{ what, text string }

var itemLine = regexp.MustCompile(`^ {2,4}(\S.*?)(?: {2,}(.*))?$`)

// items are those of a text's blocks, in order.
func items(text string) (all []item) {
	for block := range strings.SplitSeq(text, "\n\n") {
		if got, ok := itemsOf(block); ok {
			all = append(all, got...)
		}
	}
	return all
}

// itemsOf says whether a block is a list of items, and which ones.
func itemsOf(block string) (all []item, ok bool) {
	for line := range strings.Lines(block) {
		line = strings.TrimSuffix(line, "\n")
		m := itemLine.FindStringSubmatch(line)
		deep := len(line) - len(strings.TrimLeft(line, " "))
		switch {
		case m != nil && deep == 2 && (m[2] != "" || strings.HasPrefix(m[1], "-")):
			all = append(all, item{m[1], m[2]})
		case deep > 4 && len(all) > 0:
			last := &all[len(all)-1]
			last.text = strings.TrimSpace(last.text + " " + strings.TrimSpace(line))
		case deep == 2 && len(all) > 0: // a sentence among the options
			all = append(all, item{"", strings.TrimSpace(line)})
		default:
			return nil, false
		}
	}
	return all, len(all) > 0
}

var (
	inUsage  = regexp.MustCompile(`(?:-(\w)\b|--([a-z][a-z-]*))(?:[ =]([A-Z][A-Z,.]*|[a-z.-]+(?:\|[a-z.-]+)+))?`)
	flagItem = regexp.MustCompile(`^(?:-(\w)(?:, )?)?(?:--([a-z][a-z-]*))?(?: ([A-Z][A-Z,.]*))?$`)
)

// flags are those in a verb's usage, and in its list of options.
func flags(text string) (all []flag) {
	at := func(short, long string) *flag {
		for i, f := range all {
			if long != "" && f.long == long || short != "" && f.short == short {
				return &all[i]
			}
		}
		all = append(all, flag{})
		return &all[len(all)-1]
	}
	for _, it := range items(text) {
		m := flagItem.FindStringSubmatch(it.what)
		if m == nil || it.what == "" {
			continue
		}
		f := at(m[1], m[2])
		f.short, f.long, f.value, f.does = m[1], m[2], m[3], it.text
	}
	synopsis, _, _ := strings.Cut(text, "\n\n")
	for _, m := range inUsage.FindAllStringSubmatch(synopsis, -1) {
		f := at(m[1], m[2])
		if f.short == "" {
			f.short = m[1]
		}
		if f.long == "" {
			f.long = m[2]
		}
		if m[3] != "" && (f.value == "" || strings.Contains(m[3], "|")) {
			f.value = m[3]
		}
	}
	slices.SortFunc(all, func(a, b flag) int { return strings.Compare(a.long+a.short, b.long+b.short) })
	return all
}
