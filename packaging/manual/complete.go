package main

import (
	"fmt"
	"strings"
)

// Completions of shells. The names of apps are asked of the program: which there
// are is its business, and the user's.
const appNames = `tokenfs apps --json 2>/dev/null | sed -n 's/^ *"name": "\([a-z0-9-]*\)",*$/\1/p'`

// topics are what there is help about beyond the verbs.
const topics = "settings exit-codes"

// takesApps says whether a verb's arguments are names of apps.
func (v verb) takesApps() bool {
	synopsis, _, _ := strings.Cut(v.help, "\n\n")
	return strings.Contains(synopsis, "APP ") || strings.Contains(synopsis, "[APP")
}

func (c command) bash() string {
	var b strings.Builder
	b.WriteString("# tokenfs completion for bash\n_tokenfs() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}\n\tCOMPREPLY=()\n")
	var names []string
	for _, v := range c.verbs {
		names = append(names, v.name)
	}
	fmt.Fprintf(&b, "\tif ((COMP_CWORD == 1)); then\n\t\tCOMPREPLY=($(compgen -W %q -- \"$cur\"))\n\t\treturn\n\tfi\n", strings.Join(append(names, "help"), " "))
	b.WriteString("\tcase $verb:$prev in\n")
	for _, v := range c.verbs {
		for _, f := range v.flags {
			switch {
			case f.choices() != nil:
				fmt.Fprintf(&b, "\t%s:--%s) COMPREPLY=($(compgen -W %q -- \"$cur\")); return ;;\n", v.name, f.long, strings.Join(f.choices(), " "))
			case f.isPath():
				fmt.Fprintf(&b, "\t%s:--%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", v.name, f.long)
			}
		}
	}
	b.WriteString("\tesac\n\tcase $verb in\n")
	for _, v := range c.verbs {
		var long []string
		for _, f := range v.flags {
			if f.long != "" {
				long = append(long, "--"+f.long)
			}
		}
		words := fmt.Sprintf("%q", strings.Join(long, " "))
		if v.takesApps() {
			fmt.Fprintf(&b, "\t%s) [[ $cur == -* ]] && COMPREPLY=($(compgen -W %s -- \"$cur\")) || COMPREPLY=($(compgen -W \"$(%s)\" -f -- \"$cur\")) ;;\n", v.name, words, appNames)
			continue
		}
		fmt.Fprintf(&b, "\t%s) [[ $cur == -* ]] && COMPREPLY=($(compgen -W %s -- \"$cur\")) || COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n", v.name, words)
	}
	fmt.Fprintf(&b, "\thelp) COMPREPLY=($(compgen -W %q -- \"$cur\")) ;;\n\tesac\n}\ncomplete -o filenames -F _tokenfs tokenfs\n", strings.Join(append(names, topics), " "))
	return b.String()
}

func (c command) zsh() string {
	var b strings.Builder
	b.WriteString("#compdef tokenfs\n_tokenfs() {\n\tlocal -a verbs\n\tverbs=(\n")
	for _, v := range c.verbs {
		fmt.Fprintf(&b, "\t\t%s\n", quote(v.name+":"+v.does))
	}
	b.WriteString("\t\t'help:show how to use it'\n\t)\n\tif ((CURRENT == 2)); then\n\t\t_describe command verbs\n\t\treturn\n\tfi\n\tlocal verb=$words[2]\n\tshift words\n\t((CURRENT--))\n\tcase $verb in\n")
	for _, v := range c.verbs {
		fmt.Fprintf(&b, "\t%s)\n\t\t_arguments", v.name)
		for _, f := range v.flags {
			does := strings.NewReplacer("[", "(", "]", ")", ":", ",").Replace(f.does)
			value := ""
			switch {
			case f.choices() != nil:
				value = ":value:(" + strings.Join(f.choices(), " ") + ")"
			case f.isPath():
				value = ":path:_files"
			case f.value != "":
				value = ":" + strings.ToLower(strings.TrimRight(f.value, ",."))
			}
			if f.long != "" {
				fmt.Fprintf(&b, " \\\n\t\t\t%s", quote("--"+f.long+"["+does+"]"+value))
			}
			if f.short != "" {
				fmt.Fprintf(&b, " \\\n\t\t\t%s", quote("-"+f.short+"["+does+"]"+value))
			}
		}
		if v.takesApps() {
			fmt.Fprintf(&b, " \\\n\t\t\t%s", quote("*:app:($("+appNames+"))"))
		} else {
			b.WriteString(" \\\n\t\t\t'*:file:_files'")
		}
		b.WriteString(" ;;\n")
	}
	fmt.Fprintf(&b, "\thelp)\n\t\tverbs+=(%s)\n\t\t_describe command verbs ;;\n\tesac\n}\n_tokenfs \"$@\"\n", topics)
	return b.String()
}

func (c command) fish() string {
	var b strings.Builder
	b.WriteString("# tokenfs completion for fish\n")
	about := []string{topics}
	for _, v := range c.verbs {
		about = append(about, v.name)
		fmt.Fprintf(&b, "complete -c tokenfs -n __fish_use_subcommand -f -a %s -d %s\n", v.name, quote(v.does))
	}
	b.WriteString("complete -c tokenfs -n __fish_use_subcommand -f -a help -d 'show how to use it'\n")
	fmt.Fprintf(&b, "complete -c tokenfs -n '__fish_seen_subcommand_from help' -f -a %s\n", quote(strings.Join(about, " ")))
	for _, v := range c.verbs {
		on := fmt.Sprintf("complete -c tokenfs -n '__fish_seen_subcommand_from %s'", v.name)
		for _, f := range v.flags {
			b.WriteString(on)
			if f.long != "" {
				b.WriteString(" -l " + f.long)
			}
			if f.short != "" {
				b.WriteString(" -s " + f.short)
			}
			switch {
			case f.choices() != nil:
				b.WriteString(" -x -a " + quote(strings.Join(f.choices(), " ")))
			case f.isPath():
				b.WriteString(" -r -F")
			case f.value != "":
				b.WriteString(" -x")
			}
			if f.does != "" {
				b.WriteString(" -d " + quote(f.does))
			}
			b.WriteString("\n")
		}
		if v.takesApps() {
			fmt.Fprintf(&b, "%s -a %s\n", on, quote("("+appNames+")"))
		}
	}
	return b.String()
}

// quote is for a shell: fish, too, ends a quoted text at the next quote.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
