package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
)

// draw writes one picture per series: a bar for each median, and a line up to
// the 99th percentile. A bar that would leave no room to tell the others apart
// is cut, and says its number.
func (r *report) draw(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var err error
	r.each(func(_ *workload, s *series, row map[*rival]*cell) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, s.name+".svg"), []byte(r.picture(s, row)), 0o644)
		}
	})
	return err
}

const (
	barLeft, barWidth, barStep, barHeight = 90, 430, 24, 15
	longest                               = 4 // times ours is as far as bars are drawn to scale
)

func (r *report) picture(s *series, row map[*rival]*cell) string {
	var b strings.Builder
	list := r.present()
	us := row[r.find(ours)]
	var most float64
	for _, rv := range list {
		if c := row[rv]; c.measured() {
			m := c.median()
			if us.measured() {
				m = min(m, longest*us.median())
			}
			most = max(most, m)
		}
	}
	height := 44 + len(list)*barStep
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="640" height="%d" font-family="sans-serif" font-size="12">`+"\n", height)
	fmt.Fprintf(&b, `<rect width="640" height="%d" fill="#fff"/>`+"\n", height)
	fmt.Fprintf(&b, `<text x="10" y="22" font-size="14">%s: median and 99th percentile in microseconds</text>`+"\n", html.EscapeString(s.title))
	for i, rv := range list {
		y := 38 + i*barStep
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", barLeft-8, y+12, rv.name)
		c := row[rv]
		if !c.measured() {
			fmt.Fprintf(&b, `<text x="%d" y="%d">failed</text>`+"\n", barLeft, y+12)
			continue
		}
		x := func(v float64) int { return int(min(v/most, 1) * barWidth) }
		fill := "#9aa5b1"
		if rv.name == ours {
			fill = "#2f6f4f"
		}
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", barLeft, y, max(1, x(c.median())), barHeight, fill)
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%d" y2="%d" stroke="#333"/>`+"\n", barLeft, barLeft+x(c.quantile(0.99)), y+barHeight/2, y+barHeight/2)
		fmt.Fprintf(&b, `<text x="%d" y="%d">%s, %s</text>`+"\n", barLeft+max(x(c.median()), x(c.quantile(0.99)))+6, y+12, micro(c.median()), micro(c.quantile(0.99)))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
