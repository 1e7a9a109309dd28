package main

const usage = `usage: tokenfs mount [MOUNTPOINT] [-f] [--size SIZE] [--inodes N]
                     [--secretmem auto|on|off] [--whole-saves on|off]
                     [-o OPTION,...] [--on-logout wipe|keep] [--grace TIME]
       tokenfs run [--private auto|require|off] [--] COMMAND [ARG ...]
       tokenfs unmount
       tokenfs status [-v | -q | --json]
       tokenfs wipe [PATH ...]
       tokenfs apps [--json | APP ...]
       tokenfs link APP ... | --all
       tokenfs unlink APP ... | --all
       tokenfs env [APP ...] [--format FORMAT]
       tokenfs hold DURATION | -- COMMAND [ARGUMENT ...]
       tokenfs release [ID]
       tokenfs doctor [--json] [--exit-code]
       tokenfs upgrade
       tokenfs version [--json]
       tokenfs help [COMMAND | settings | exit-codes]

tokenfs keeps files, such as the token caches of sign-in libraries, encrypted
in memory. Nothing of them reaches a disk, and wiping them destroys the key.

  mount     mount the filesystem and leave a daemon serving it
  run       run a command with a filesystem of its own, which ends with it
  unmount   destroy the keys, then unmount, also while files are in use
  status    show what is held, and what protects it on this machine
  wipe      destroy everything, or the files and trees named
  apps      known apps: which are here, which are linked, whose tokens are on disk
  link      move apps onto the filesystem, and what they have of tokens
  unlink    move apps back to where they were
  env       the variables that redirect apps where no link can
  hold      keep it beyond the last logout, for a time or as long as a command runs
  release   end that
  doctor    what weakens all this on this machine and in this account, and what helps
  upgrade   go on with the program that is installed now, mount and files as they are
  version   show the version

The mountpoint is $XDG_RUNTIME_DIR/tokenfs, or /run/user/UID/tokenfs where that
variable is not set. The other commands find another one with --mountpoint.

example:
    $ tokenfs mount
    mounted on /run/user/1000/tokenfs
    $ tokenfs link azure-cli
    $ tokenfs status
    $ tokenfs wipe
`

const mountUsage = `usage: tokenfs mount [MOUNTPOINT] [-f] [--size SIZE] [--inodes N]
                     [--secretmem auto|on|off] [--whole-saves on|off]
                     [-o OPTION,...] [--on-logout wipe|keep] [--grace TIME]

Mounts the filesystem and returns when it can be used. If it is mounted already,
that is said and is not an error; a mount whose daemon has died is cleared away.
MOUNTPOINT must be an empty directory of yours, and is made if only it is missing.

  -f, --foreground   serve from this process, not from a daemon in the background
  --size SIZE        room for contents (default 64M)
  --inodes N         how many files, directories and other nodes (default 65536)
  --secretmem MODE   keep keys outside the kernel's own map of memory, which also
                     forbids hibernation: auto where possible (default), on, off
  --whole-saves MODE on (default): a file that is cut and written again is as it was
                     to others until its writer closes it, and stays so if that
                     is killed first; off: as on tmpfs, at once
  -o, --options OPTION,...
                     mount options: ro, noexec, noatime, sync, dirsync and, for
                     root, allow_other; nosuid and nodev are always on
  --on-logout WHAT   when the last login session ends: wipe (default) or keep
  --grace TIME       how much later that is, so that who comes back in time need
                     not sign in again (default 10s)
  --login            belong to all logins of this user, and wait for the first one;
                     leave a note if it fails, for status to show; for systemd
  --apps FILE        the list of linked apps (default ~/.config/tokenfs/apps.json),
                     which find their directories from the first moment on
  --mountpoint DIR   the same as MOUNTPOINT

Logins are what logind says: ssh, consoles and display managers, not su, sudo and
cron. They count for a filesystem at the default place; what is mounted by hand
there is unmounted at a logout, and what is mounted elsewhere or where there is no
logind lives until somebody ends it.

The daemon ends, and the keys with it, at tokenfs unmount, at umount and
fusermount3 -u, and on SIGTERM, SIGINT and SIGHUP.

example:
    $ tokenfs mount --size 16M -o noexec
    mounted on /run/user/1000/tokenfs
`

const runUsage = `usage: tokenfs run [--private auto|require|off] [--mountpoint DIR] [--size SIZE]
                   [--inodes N] [--secretmem auto|on|off] [--whole-saves on|off]
                   [-o OPTION,...] [--] COMMAND [ARG ...]

Runs COMMAND with a filesystem that is mounted where tokenfs mount would, but in a
mount namespace of the command's own: other programs do not find it there, and
one that is mounted there outside is hidden. Where there is no runtime directory,
one is made, and XDG_RUNTIME_DIR tells the command. When COMMAND ends, everything
is wiped and gone; processes that it left behind get errors.

  --private MODE     auto: where namespaces are refused, mount for all to see, and
                     say so (default); require: fail then; off: no namespace, so
                     that setuid programs such as sudo work in COMMAND
  --mountpoint DIR   mount there; TOKENFS_MOUNTPOINT tells the command
  The other options are those of tokenfs mount.

The exit status is that of COMMAND, or 128+N if signal N killed it; 125 if tokenfs
failed, 126 if COMMAND cannot be executed, 127 if there is none. Signals sent to
tokenfs run are passed on to COMMAND.

example:
    $ tokenfs run -- sh -c 'az login --identity && terraform apply'
`

const unmountUsage = `usage: tokenfs unmount [--dead] [--mountpoint DIR]

Destroys the keys, then unmounts. Programs that still have a file open get errors
from then on. Clears away a mount whose daemon has died, and kills a daemon that
does not answer.

  --dead   do nothing but clear away a mount whose daemon has died, if there is one

example:
    $ tokenfs unmount
    unmounted /run/user/1000/tokenfs
`

const statusUsage = `usage: tokenfs status [-v | -q | --json] [--mountpoint DIR]

Shows what the filesystem holds (never contents), until when, and which protections
are not active on this machine.

  -v, --verbose   also names, sizes and times of files, every protection, what its
                  processes can still do, memory, and the last messages
  -q, --quiet     say nothing: the exit code tells
  --json          for programs: fields keep their meaning as long as format_version
                  does; also where nothing is mounted

example:
    $ tokenfs status --json | jq .content.files
`

const wipeUsage = `usage: tokenfs wipe [--mountpoint DIR] [PATH ...]

Without PATH, destroys everything and goes on with a fresh key. With PATH, destroys
that file or tree; a file with several names loses its contents under all of them.
Does not ask. What cannot be named cannot be wiped by mistake: the last component
of PATH is never followed if it is a symbolic link, nor is any link inside the
filesystem, and a PATH outside is an error.

example:
    $ tokenfs wipe ~/.azure/msal_token_cache.json
    wiped 1 file
`

const upgradeUsage = `usage: tokenfs upgrade [--mountpoint DIR]

Replaces the daemon by the program that is now at the path it was started from.
Nothing is unmounted: files stay open, locks held, and programs that use them
wait a moment. A program that cannot take the filesystem over as it is in memory
is refused, and then nothing has changed; so is one that others than root can
write to, where the running one was root's alone.

example:
    $ sudo install -m 0711 tokenfs /usr/local/bin/tokenfs
    $ tokenfs upgrade
    /run/user/1000/tokenfs is served by tokenfs v1.1.0 now
`

const appsUsage = `usage: tokenfs apps [--json] [--mountpoint DIR]
       tokenfs apps APP ... [--mountpoint DIR]

Lists the apps that tokenfs knows and that are here: whether they are linked,
which of their secrets lie on disk in plain sight, and what to run about it. Of
an APP it tells what is known: its files, what a logout costs, and how that is known.

  --json   for programs: fields keep their meaning as long as format_version does

example:
    $ tokenfs apps
    app        linked  on disk in plain sight           to run
    azure-cli  no      ~/.azure/msal_token_cache.json   tokenfs link azure-cli
`

const linkUsage = `usage: tokenfs link [--yes-lose] [--renewable] [-n] [--mountpoint DIR] APP ...
       tokenfs link --all [-n] [--mountpoint DIR]

Moves apps onto the filesystem. An app's directory becomes a link to it, what it
was is kept beside it as NAME.tokenfs, and the link to each thing in there that is
not secret leads back to disk. Secrets that are there are moved in, checked, and
overwritten on disk; the last logout ends them. An app that has no directory of its
own is redirected by a variable, which is set in ~/.config/environment.d. Where an
app's own variable names another directory, that one is linked.

APP is a name from tokenfs apps, the name of its program, or a directory, with a /
in its name, that an app has for its secrets alone. All that is in such a directory
ends with the last logout, so one that is not empty needs a clear yes. Your home,
directories of many programs, and keys such as ~/.ssh are refused.

Does nothing to an app that is linked, that holds a lock, or of which a logout
would take what no login brings back; where a file's name does not tell that, its
contents do. Interrupted, it leaves an app as it was or linked: the next tokenfs
link or unlink says which.

  --all           every app that is here and of which nothing can be lost
  --yes-lose      also what no login brings back: keys, passwords, settings among them
  --renewable     of a directory: a login brings back what is in it, but for private keys
  -n, --dry-run   say what would be moved, kept and refused, and do nothing

example:
    $ tokenfs link azure-cli
    linked ~/.azure
`

const unlinkUsage = `usage: tokenfs unlink [--keep-tokens] [--yes-lose] [-n] [--mountpoint DIR] APP ...
       tokenfs unlink --all [--keep-tokens] [--yes-lose] [-n] [--mountpoint DIR]

Moves apps back to where they were, with names, modes, times and links. Tokens end
here, unless they are to be kept; what no login brings back only if you say so.

  --all           every app that is linked
  --keep-tokens   write the tokens to disk, as they were before
  --yes-lose      end also what no login brings back
  -n, --dry-run   say what would be brought back and refused, and do nothing

example:
    $ tokenfs unlink azure-cli
    unlinked ~/.azure
`

const envUsage = `usage: tokenfs env [--format FORMAT] [--mountpoint DIR] [APP ...]

Prints the variables that redirect apps, and make them use their files: those of
the linked apps, or of the apps named. Linked apps need none in a session; what
is made from nothing, such as a container, does.

  --format FORMAT   sh (default), fish, environment.d or dockerfile

example:
    $ tokenfs env azure-cli --format dockerfile
    ENV AZURE_CONFIG_DIR="/run/user/1000/tokenfs/azure"
`

const holdUsage = `usage: tokenfs hold [--mountpoint DIR] DURATION
       tokenfs hold [--mountpoint DIR] -- COMMAND [ARGUMENT ...]

Takes a lease: the end of the last login does not wipe before the lease ends. That
is after DURATION (as 30m, 8h or 2d, up to 720h; a suspended machine counts), or when
COMMAND and everything that it has left in the background have ended, or at tokenfs
release. Where services of a user end with the last logout, lingering is switched
on meanwhile; where that is refused, there is no lease, and hold fails.

With COMMAND, the exit status is that of the command: 126 if it cannot be executed,
127 if there is none, and 128+N if signal N ended it. The lease goes on for what the
command leaves behind, as tmux, screen and mosh-server do.

example:
    $ tokenfs hold 8h
    held until 2026-03-01 18:00:00: lease 1
    $ tokenfs hold -- tmux new-session -A -s work
    $ mosh --server='tokenfs hold -- mosh-server' host
`

const releaseUsage = `usage: tokenfs release [--mountpoint DIR] [ID]

Ends one lease, or all of them. tokenfs status lists them. If nobody is logged in,
everything is wiped when the last one ends.

example:
    $ tokenfs release 1
    released 1 lease
`

const doctorUsage = `usage: tokenfs doctor [--json] [--exit-code] [--mountpoint DIR]

Looks for everything on this machine and in this account that weakens what tokenfs
is for, and says what to do about it, the worst first:

  exposed   secrets lie in the clear where they should not
  broken    something does not work, or protects nothing
  weak      what is promised holds, but less than it could
  unknown   could not be looked at
  note      good to know

It changes nothing, and shows no token. Its exit code does not tell what it found,
unless it is asked to.

  --json        for programs: fields keep their meaning as long as format_version does
  --exit-code   end with 1 if anything is exposed or broken

example:
    $ tokenfs doctor --json | jq -e '[.findings[] | select(.severity == "exposed")] == []'
`

const versionUsage = `usage: tokenfs version [--json]

  --json   for programs, with commit, Go version, experiments and build tags

example:
    $ tokenfs version --json
`

const settingsUsage = `Settings come from flags, from the environment, from ~/.config/tokenfs/config (in
$XDG_CONFIG_HOME if that is set) and from /etc/tokenfs/config. The first one that
has a setting decides.

  flag           environment           in a file     value
  MOUNTPOINT     TOKENFS_MOUNTPOINT    mountpoint    an absolute path, or with ~/
    or --mountpoint                                  in a file or the environment
  --size         TOKENFS_SIZE          size          bytes, or with K, M or G after
                                                     them; 1M to 16G
  --inodes       TOKENFS_INODES        inodes        16 to 1048576
  --secretmem    TOKENFS_SECRETMEM     secretmem     auto, on or off
  --whole-saves  TOKENFS_WHOLE_SAVES   whole-saves   on (default) or off
  -o             TOKENFS_OPTIONS       options       mount options with commas
  --on-logout    TOKENFS_ON_LOGOUT     on-logout     wipe or keep
  --grace        TOKENFS_GRACE         grace         as 30s, 5m or 1h30m; up to 720h
  -              TOKENFS_ROOT_LOGINS   root-logins   on or off (default): whether root's
                                                     own logins get a mount, too
  --private      TOKENFS_PRIVATE       private       auto, require or off (for run)

With a wrong one nothing is mounted, and what is mounted can be used, wiped and
unmounted as before; tokenfs doctor shows it.

example of a file:
    # what this machine can spare
    size = 16M           # bytes, or K, M, G
    options = noexec
`

// topics of help, by name.
var topics = map[string]string{
	"":           usage,
	"mount":      mountUsage,
	"run":        runUsage,
	"unmount":    unmountUsage,
	"status":     statusUsage,
	"wipe":       wipeUsage,
	"apps":       appsUsage,
	"link":       linkUsage,
	"unlink":     unlinkUsage,
	"env":        envUsage,
	"hold":       holdUsage,
	"release":    releaseUsage,
	"doctor":     doctorUsage,
	"upgrade":    upgradeUsage,
	"version":    versionUsage,
	"settings":   settingsUsage,
	"exit-codes": "exit codes:\n" + exitCodeTable(),
	"help":       usage,
}
