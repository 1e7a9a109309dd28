// Package run tests tokenfs run as those would meet it who need it: a CI job, a
// cron job, a container without systemd, a shell with job control.
package run
