package main

const usage = `usage: tokenfs mount [MOUNTPOINT] [-f] [--size SIZE] [--inodes N]
                     [--secretmem auto|on|off] [-o OPTION,...]
       tokenfs unmount
       tokenfs status [--json]
       tokenfs wipe [PATH ...]
       tokenfs upgrade
       tokenfs version [--json]
       tokenfs help [COMMAND | settings | exit-codes]

tokenfs keeps files, such as the token caches of sign-in libraries, encrypted
in memory. Nothing of them reaches a disk, and wiping them destroys the key.

  mount     mount the filesystem and leave a daemon serving it
  unmount   destroy the keys, then unmount, also while files are in use
  status    show what is held, and what protects it on this machine
  wipe      destroy everything, or the files and trees named
  upgrade   go on with the program that is installed now, mount and files as they are
  version   show the version

The mountpoint is $XDG_RUNTIME_DIR/tokenfs, or /run/user/UID/tokenfs where that
variable is not set. The other commands find another one with --mountpoint.

example:
    $ tokenfs mount
    mounted on /run/user/1000/tokenfs
    $ ln -s /run/user/1000/tokenfs/azure ~/.azure
    $ tokenfs status
    $ tokenfs wipe
`

const mountUsage = `usage: tokenfs mount [MOUNTPOINT] [-f] [--size SIZE] [--inodes N]
                     [--secretmem auto|on|off] [-o OPTION,...]

Mounts the filesystem and returns when it can be used. If it is mounted already,
that is said and is not an error; a mount whose daemon has died is cleared away.
MOUNTPOINT must be an empty directory of yours, and is made if only it is missing.

  -f, --foreground   serve from this process, not from a daemon in the background
  --size SIZE        room for contents (default 64M)
  --inodes N         how many files, directories and other nodes (default 65536)
  --secretmem MODE   keep keys outside the kernel's own map of memory, which also
                     forbids hibernation: auto where possible (default), on, off
  -o, --options OPTION,...
                     mount options: ro, noexec, noatime, sync, dirsync and, for
                     root, allow_other; nosuid and nodev are always on
  --login            leave a note if it fails, for status to show; for systemd
  --mountpoint DIR   the same as MOUNTPOINT

The daemon ends, and the keys with it, at tokenfs unmount, at umount and
fusermount3 -u, and on SIGTERM, SIGINT and SIGHUP.

example:
    $ tokenfs mount --size 16M -o noexec
    mounted on /run/user/1000/tokenfs
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

const statusUsage = `usage: tokenfs status [--json] [--mountpoint DIR]

Shows since when the filesystem is mounted, what it holds (names, sizes and times,
never contents), which protections are active on this machine and which are not,
and how much memory it takes.

  --json   for programs: fields keep their meaning as long as format_version does

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

const versionUsage = `usage: tokenfs version [--json]

example:
    $ tokenfs version --json
`

const settingsUsage = `Settings come from flags, from the environment, from ~/.config/tokenfs/config (in
$XDG_CONFIG_HOME if that is set) and from /etc/tokenfs/config. The first one that
has a setting decides.

  flag           environment           in a file     value
  MOUNTPOINT     TOKENFS_MOUNTPOINT    mountpoint    an absolute path in a file or
    or --mountpoint                                  in the environment
  --size         TOKENFS_SIZE          size          bytes, or with K, M or G after
                                                     them; 1M to 16G
  --inodes       TOKENFS_INODES        inodes        16 to 1048576
  --secretmem    TOKENFS_SECRETMEM     secretmem     auto, on or off
  -o             TOKENFS_OPTIONS       options       mount options with commas

example of a file:
    # what this machine can spare
    size = 16M
    options = noexec
`

// topics of help, by name.
var topics = map[string]string{
	"":           usage,
	"mount":      mountUsage,
	"unmount":    unmountUsage,
	"status":     statusUsage,
	"wipe":       wipeUsage,
	"upgrade":    upgradeUsage,
	"version":    versionUsage,
	"settings":   settingsUsage,
	"exit-codes": "exit codes:\n" + exitCodeTable(),
	"help":       usage,
}
