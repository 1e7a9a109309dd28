package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// A cell is what one series took on one rival, over all rounds.
type cell struct {
	times  []uint32 // nanoseconds
	failed string
	once   string        // what failed, and worked when tried again
	cpu    time.Duration // of server and clients, for all series of the workload
}

func (c *cell) median() float64 { return c.quantile(0.5) }

// quantile is in microseconds.
func (c *cell) quantile(q float64) float64 {
	return float64(c.times[min(int(q*float64(len(c.times))), len(c.times)-1)]) / 1000
}

// mean is in microseconds.
func (c *cell) mean() float64 {
	sum := 0.0
	for _, t := range c.times {
		sum += float64(t)
	}
	return sum / float64(len(c.times)) / 1000
}

func (c *cell) measured() bool { return c != nil && c.failed == "" && len(c.times) > 0 }

// race lets every workload run on every rival, in rounds.
func (r *report) race(b *bench, list []*rival, o options) {
	r.cells = make(map[string]map[*rival]*cell)
	for round := range o.rounds {
		for _, w := range workloads {
			if !wanted(w.name, o.only) {
				continue
			}
			for i := range list {
				rv := list[(i+round)%len(list)]
				if rv.absent == "" {
					r.turn(b, w, rv, o.slice)
				}
			}
		}
		fmt.Fprintf(os.Stderr, "bench: round %d of %d done\n", round+1, o.rounds)
	}
	for _, row := range r.cells {
		for _, c := range row {
			slices.Sort(c.times)
		}
	}
}

// turn is one rival's turn at a workload.
func (r *report) turn(b *bench, w *workload, rv *rival, slice time.Duration) {
	first := r.cell(w.series[0].name, rv)
	if first.failed != "" {
		return
	}
	before := rv.cpu()
	series, err := b.runClients(w, rv.dir, slice, mostTimes)
	if err != nil { // some lose sight of a file while another client renames it
		first.once = oneLine(err)
		series, err = b.runClients(w, rv.dir, slice, mostTimes)
	}
	if err != nil {
		first.failed = oneLine(err)
		return
	}
	first.cpu += rv.cpu() - before
	for i := range w.series {
		c := r.cell(w.series[i].name, rv)
		c.times = append(c.times, series[i]...)
	}
}

func (r *report) cell(series string, rv *rival) *cell {
	row := r.cells[series]
	if row == nil {
		row = make(map[*rival]*cell)
		r.cells[series] = row
	}
	c := row[rv]
	if c == nil {
		c = new(cell)
		row[rv] = c
	}
	return c
}
