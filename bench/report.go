package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// report is what a run found.
type report struct {
	rivals []*rival
	begun  time.Time
	rounds int
	slice  time.Duration
	load   string
	cells  map[string]map[*rival]*cell
	spent  map[*rival]*costs
	lives  map[*rival]*lifetime
}

func (r *report) present() (list []*rival) {
	for _, rv := range r.rivals {
		if rv.absent == "" {
			list = append(list, rv)
		}
	}
	return list
}

func (r *report) find(name string) *rival {
	for _, rv := range r.rivals {
		if rv.name == name {
			return rv
		}
	}
	return nil
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n%s, %d CPUs, Linux %s, %s, %d rounds of %v, load average before %s\n\n", r.begun.UTC().Format("2006-01-02 15:04"),
		cpuName(), runtime.NumCPU(), kernel(), runtime.Version(), r.rounds, r.slice, r.load)
	for _, rv := range r.rivals {
		if rv.absent != "" {
			fmt.Fprintf(w, "  %-10s NOT MEASURED: %s\n", rv.name, rv.absent)
		} else {
			fmt.Fprintf(w, "  %-10s %s\n", rv.name, rv.what)
		}
	}
	r.table(w)
	r.ratios(w)
}

// write prints a part of the report, and appends it to a file if there is one.
func (r *report) write(log string, part func(io.Writer)) error {
	part(os.Stdout)
	if log == "" {
		return nil
	}
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	part(f)
	return f.Close()
}

// loadAverage says what else the machine was doing: of the last minute.
func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

func cpuName() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	_, after, _ := bytes.Cut(b, []byte("model name\t: "))
	name, _, _ := bytes.Cut(after, []byte("\n"))
	return string(name)
}

func kernel() string {
	var u unix.Utsname
	unix.Uname(&u)
	// What follows the version proper may name a machine or its maker.
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return release
}

func (r *report) each(f func(w *workload, s *series, row map[*rival]*cell)) {
	for _, w := range workloads {
		for i := range w.series {
			if row := r.cells[w.series[i].name]; row != nil {
				f(w, &w.series[i], row)
			}
		}
	}
}

func (r *report) table(w io.Writer) {
	fmt.Fprintf(w, "\nmicroseconds: median, p99\n")
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t")
	for _, rv := range r.present() {
		fmt.Fprintf(t, "%s\t\t", rv.name)
	}
	fmt.Fprintln(t)
	r.each(func(_ *workload, s *series, row map[*rival]*cell) {
		fmt.Fprintf(t, "%s\t", s.title)
		for _, rv := range r.present() {
			if c := row[rv]; c.measured() {
				fmt.Fprintf(t, "%s\t%s\t", micro(c.median()), micro(c.quantile(0.99)))
			} else {
				fmt.Fprint(t, "failed\t\t")
			}
		}
		fmt.Fprintln(t)
	})
	t.Flush()
	r.each(func(_ *workload, s *series, row map[*rival]*cell) {
		for _, rv := range r.present() {
			switch c := row[rv]; {
			case c == nil:
			case c.failed != "":
				fmt.Fprintf(w, "  %s on %s: %s\n", s.title, rv.name, c.failed)
			case c.once != "":
				fmt.Fprintf(w, "  %s on %s, once, and not when tried again: %s\n", s.title, rv.name, c.once)
			}
		}
	})
}

func micro(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// ratios prints how many times a rival's median ours is, and the bar. A median
// says nothing of the clients that wait longest, who pay where several are served
// at once: there the means, which are the clients divided by the throughput, follow.
func (r *report) ratios(w io.Writer) {
	fmt.Fprintf(w, "\n%s : rival, ratio of medians (bar; ! where it is missed)\n", ours)
	r.compare(w, (*cell).median, func(_ *workload, s *series) (bars, bool) { return s.bar, true })
	fmt.Fprintf(w, "\n%s : rival, ratio of means, where several are served at once\n", ours)
	r.compare(w, (*cell).mean, func(l *workload, _ *series) (bars, bool) { return bars{}, l.clients > 1 })
}

func (r *report) compare(w io.Writer, by func(*cell) float64, wants func(*workload, *series) (bars, bool)) {
	us := r.find(ours)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t")
	for _, rv := range r.present() {
		if rv != us {
			fmt.Fprintf(t, "%s\t", rv.name)
		}
	}
	fmt.Fprintln(t)
	r.each(func(l *workload, s *series, row map[*rival]*cell) {
		bar, wanted := wants(l, s)
		if !wanted {
			return
		}
		fmt.Fprintf(t, "%s\t", s.title)
		for _, rv := range r.present() {
			switch {
			case rv == us:
			case !row[us].measured() || !row[rv].measured():
				fmt.Fprint(t, "-\t")
			default:
				fmt.Fprintf(t, "%s\t", judged(by(row[us])/by(row[rv]), bar.of(rv.name)))
			}
		}
		fmt.Fprintln(t)
	})
	t.Flush()
}

func (b bars) of(rival string) float64 {
	return map[string]float64{"gocryptfs": b.gocryptfs, "loopback": b.loopback, "floor": b.floor}[rival]
}

func judged(ratio, bar float64) string {
	switch {
	case bar == 0:
		return fmt.Sprintf("%.2f", ratio)
	case ratio > bar:
		return fmt.Sprintf("! %.2f (%.1f)", ratio, bar)
	}
	return fmt.Sprintf("%.2f (%.1f)", ratio, bar)
}

// rest prints costs and lifetimes.
func (r *report) rest(w io.Writer) {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight)
	row := func(title string, f func(rv *rival) string) {
		fmt.Fprintf(t, "%s\t", title)
		for _, rv := range r.present() {
			fmt.Fprintf(t, "%s\t", f(rv))
		}
		fmt.Fprintln(t)
	}
	row("", func(rv *rival) string { return rv.name })
	cost := func(title string, f func(*costs) string) {
		row(title, func(rv *rival) string {
			if c := r.spent[rv]; c != nil {
				return f(c)
			}
			return "-"
		})
	}
	mib := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
	cost("PSS empty, MiB", func(c *costs) string { return mib(c.pssEmpty) })
	cost("PSS with 100 × 64 KiB, MiB", func(c *costs) string { return mib(c.pssFull) })
	cost("locked memory, MiB", func(c *costs) string { return mib(c.locked) })
	cost("wake-ups a minute when idle", func(c *costs) string { return fmt.Sprintf("%.0f", c.wakeups) })
	for _, name := range []string{"load-32K", "save"} {
		row("CPU seconds for 10,000 × "+name, func(rv *rival) string {
			if c := r.cells[name][rv]; c.measured() {
				return fmt.Sprintf("%.2f", c.cpu.Seconds()*10000/float64(len(c.times)))
			}
			return "-"
		})
	}
	row("start to ready, ms", func(rv *rival) string {
		if l := r.lives[rv]; l != nil && len(l.start) > 0 {
			return milli(l.start[len(l.start)/2])
		}
		return "-"
	})
	for _, n := range wiped {
		row(fmt.Sprintf("end of %d files, ms", n), func(rv *rival) string {
			if l := r.lives[rv]; l != nil && l.end[n] > 0 {
				return milli(l.end[n])
			}
			return "-"
		})
	}
	t.Flush()
	for _, rv := range r.present() {
		if l := r.lives[rv]; l != nil && l.failed != nil {
			fmt.Fprintf(w, "  %s: %s\n", rv.name, oneLine(l.failed))
		}
	}
	fmt.Fprintf(w, "CPU is that of clients and server; the end is tokenfs wipe until its keys are gone, elsewhere unlink of every file.\n")
}

func milli(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
