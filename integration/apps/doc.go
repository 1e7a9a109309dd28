// Package apps knows which applications there are, what of their files is
// secret, and how each is redirected to the filesystem and back.
//
// The applications are a table: app.go has its types, one file per family its
// entries. To add one, add an entry; TestTable says what is missing.
//
// # How an application is redirected
//
// By directory, never by a symlink to one of its files: MSAL.NET refuses such a
// link, az deletes it and leaves the token behind it, terraform and botocore
// replace it by a file on disk. So
//
//	~/.azure           becomes a symlink to the directory azure on the mount
//	~/.azure.tokenfs   is what was ~/.azure, without the secrets
//
// by one exchange of two names. On the mount, azure holds the secrets, and for
// everything else a symlink to the file or directory of that name in
// ~/.azure.tokenfs: settings, extensions and logs stay on disk, and what an
// application looks for is where it was. Going back is the same exchange.
//
// Where an application's secret is a file among other things in the home
// directory, only a variable can move it: it is set in environment.d.
//
// # What is written down
//
// apps.json in the configuration directory lists every redirected directory and
// how far its redirection has come. From it follows what every session of the
// filesystem begins with (fs.Folder), so that an application finds its
// directory after a mount and after a wipe; and from it an interrupted run is
// taken back or completed (recover.go). It holds names, never contents.
package apps
