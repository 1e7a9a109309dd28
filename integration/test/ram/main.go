package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	err := errors.New("usage: ram remember|look|await|wakeup|report ...: see run.sh")
	if len(os.Args) > 1 {
		switch args := os.Args[2:]; os.Args[1] {
		case "remember":
			err = remember(args)
		case "look":
			err = look(args)
		case "await":
			err = await(args)
		case "wakeup":
			err = wakeup(args)
		case "report":
			err = report(args)
		}
	}
	if errors.Is(err, errFailed) {
		os.Exit(1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ram:", err)
		os.Exit(2)
	}
}

// remember writes to a file what tokenfs tells (on standard input), and what its arena
// holds now: what is to be looked for later.
func remember(args []string) error {
	flags := flag.NewFlagSet("remember", flag.ContinueOnError)
	machine := flags.String("machine", "", "the directory of the running machine")
	to := flags.String("to", "", "the file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	t, err := readTold(os.Stdin)
	if err != nil {
		return err
	}
	d, err := dumpMachine(*machine)
	if err != nil {
		return err
	}
	defer d.close()
	return t.save(d, *to)
}

func dumpMachine(dir string) (*dump, error) {
	m, err := dialMonitor(filepath.Join(dir, "monitor"))
	if err != nil {
		return nil, err
	}
	defer m.close()
	return takeDump(m, filepath.Join(dir, "ram"), filepath.Join(dir, "dump"))
}

// look dumps the machine, searches the dump, its swap and its disk, attacks the dump,
// and adds a line to the results.
func look(args []string) error {
	var r result
	flags := flag.NewFlagSet("look", flag.ContinueOnError)
	machine := flags.String("machine", "", "the directory of the machine")
	flags.StringVar(&r.Kernel, "kernel", "", "which kernel, and how it was booted")
	flags.StringVar(&r.Release, "release", "", "what it calls itself")
	flags.StringVar(&r.Program, "program", "", "which tokenfs")
	flags.StringVar(&r.State, "state", "", "what has happened")
	flags.StringVar(&r.Note, "note", "", "what else there is to say")
	seed := flags.String("seed", "", "of the tokens")
	systems := flags.String("systems", "", "who was given tokens")
	tokens := flags.Int("tokens", 4, "how many each was given")
	size := flags.Int("size", 16384, "bytes in each")
	named := flags.Int("named", 0, "how many were planted as names and as targets of links")
	secrets := flags.String("secrets", "", "what tokenfs was seen to hold")
	earlier := flags.String("earlier", "", "the same, from before the files in question were there")
	live := flags.Bool("live", false, "the session lives: its keys may be in their place")
	off := flags.Bool("off", false, "the machine is off: search only its swap and its disk")
	results := flags.String("results", "", "the file of results")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted := planted(*seed, r.State, strings.Fields(*systems), *tokens, *size, *named)
	var region []uint64
	if *secrets != "" {
		t, err := loadTold(*secrets)
		if err != nil {
			return err
		}
		var before *told
		if *earlier != "" {
			e, err := loadTold(*earlier)
			if err != nil {
				return err
			}
			before = &e
		}
		sealed, err := t.secrets(before)
		if err != nil {
			return err
		}
		for _, s := range sealed {
			if !*live || s.pattern != ciphertext { // of a session that lives it is in its place
				wanted = append(wanted, s)
			}
		}
		if *live && !*off {
			region = t.Frames["keys"]
		}
	}
	var d *dump
	if !*off {
		var err error
		if d, err = dumpMachine(*machine); err != nil {
			return err
		}
		defer d.close()
	}
	s := newSearch(wanted, d, region)
	if err := s.run(map[string]string{"swap": filepath.Join(*machine, "swap"), "disk": filepath.Join(*machine, "disk")}); err != nil {
		return err
	}
	r.Cells = s.cells
	if d != nil {
		r.Attack = r.Cells.attack(d, wanted)
	}
	if err := r.save(*results); err != nil {
		return err
	}
	limits, err := loadLimits()
	if err != nil {
		return err
	}
	fmt.Print(r.text(limits))
	return nil
}

// attack adds what an attacker gets out of the dump of the tokens that tokenfs was given.
func (c cells) attack(d *dump, wanted []secret) string {
	a := runAttack(d)
	for _, s := range wanted {
		if s.system != "tokenfs" || s.pattern != contents {
			continue
		}
		x := c.at(s.system, recovered)
		x.Of += len(s.bytes)
		if n := a.recovered(s.bytes); n > 0 {
			x.Found += n
			x.Where["by an attack on the dump"] += n
		}
	}
	return fmt.Sprintf("%d candidates for keys, %d for nonces, %d for sealed pages: %d blocks opened", a.keys, a.nonces, a.pages, len(a.opened))
}

// await waits until a machine is in a state such as suspended.
func await(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: ram await MACHINE STATUS")
	}
	m, err := dialMonitor(filepath.Join(args[0], "monitor"))
	if err != nil {
		return err
	}
	defer m.close()
	const limit = 5 * time.Minute
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		status, err := m.status()
		if err != nil || status == args[1] {
			return err
		}
		if time.Since(began) > limit {
			return fmt.Errorf("the machine is %s after %s, and not %s", status, limit, args[1])
		}
	}
}

func wakeup(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: ram wakeup MACHINE")
	}
	m, err := dialMonitor(filepath.Join(args[0], "monitor"))
	if err != nil {
		return err
	}
	defer m.close()
	return m.do("system_wakeup", nil, nil)
}
