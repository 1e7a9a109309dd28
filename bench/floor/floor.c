/*
 * The least that a FUSE filesystem can do: files in plain memory, behind the
 * caching choices of tokenfs, and nothing else. What tokenfs takes longer than
 * this is what it does; what this takes is FUSE.
 *
 * One lock, inodes that are never freed before their last FORGET, no quota, no
 * links, times as far as the benchmark can tell. cc -O2 floor.c `pkg-config
 * --cflags --libs fuse3`
 */
#define FUSE_USE_VERSION 312
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT 60.0 /* of names and attributes */
#define MAX_IO (128 << 10)

struct entry {
	char *name;
	struct node *node;
};

struct node {
	struct stat st;
	struct entry *entries; /* directories */
	size_t count, room;
	char *data; /* files */
	size_t allocated;
	uint64_t lookups;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node root;
static ino_t last = FUSE_ROOT_ID;

static struct node *node(fuse_ino_t ino) { return ino == FUSE_ROOT_ID ? &root : (struct node *)ino; }
static fuse_ino_t number(struct node *n) { return n == &root ? FUSE_ROOT_ID : (fuse_ino_t)n; }

static void stamp(struct node *n, int access)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (access) {
		n->st.st_atim = now;
	} else {
		n->st.st_mtim = n->st.st_ctim = now;
	}
}

static struct entry *find(struct node *dir, const char *name)
{
	for (size_t i = 0; i < dir->count; i++)
		if (strcmp(dir->entries[i].name, name) == 0)
			return &dir->entries[i];
	return NULL;
}

static void add(struct node *dir, const char *name, struct node *n)
{
	if (dir->count == dir->room) {
		dir->room = dir->room * 2 + 16;
		dir->entries = realloc(dir->entries, dir->room * sizeof *dir->entries);
	}
	dir->entries[dir->count++] = (struct entry){strdup(name), n};
	stamp(dir, 0);
}

static void drop(struct node *n)
{
	if (n != &root && n->lookups == 0 && n->st.st_nlink == 0) {
		free(n->data);
		free(n->entries);
		free(n);
	}
}

static void unname(struct node *dir, struct entry *e)
{
	struct node *n = e->node;
	free(e->name);
	memmove(e, e + 1, (char *)(dir->entries + dir->count) - (char *)(e + 1));
	dir->count--;
	stamp(dir, 0);
	n->st.st_nlink = 0;
	drop(n);
}

static struct node *create(fuse_req_t req, struct node *dir, const char *name, mode_t mode)
{
	struct node *n = calloc(1, sizeof *n);
	const struct fuse_ctx *who = fuse_req_ctx(req);
	n->st.st_ino = ++last;
	n->st.st_mode = mode;
	n->st.st_nlink = S_ISDIR(mode) ? 2 : 1;
	n->st.st_uid = who->uid;
	n->st.st_gid = who->gid;
	stamp(n, 0);
	stamp(n, 1);
	add(dir, name, n);
	return n;
}

static void describe(struct node *n, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){.ino = number(n), .generation = 1, .attr = n->st,
		.attr_timeout = TIMEOUT, .entry_timeout = TIMEOUT};
	n->lookups++;
}

static void resize(struct node *n, size_t size)
{
	if (size > n->allocated) {
		n->allocated = size > 2 * n->allocated ? size : 2 * n->allocated;
		n->data = realloc(n->data, n->allocated);
	}
	if (size > (size_t)n->st.st_size)
		memset(n->data + n->st.st_size, 0, size - n->st.st_size);
	n->st.st_size = size;
	n->st.st_blocks = (size + 4095) / 4096 * 8;
}

static void opened(struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	fi->noflush = 1;
}

static void do_init(void *data, struct fuse_conn_info *conn)
{
	(void)data;
	conn->want &= ~(FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE);
	conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_HANDLE_KILLPRIV);
	conn->max_write = MAX_IO;
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.entry_timeout = TIMEOUT};
	pthread_mutex_lock(&lock);
	struct entry *found = find(node(parent), name);
	if (found)
		describe(found->node, &e);
	pthread_mutex_unlock(&lock);
	fuse_reply_entry(req, &e);
}

static void forget(fuse_ino_t ino, uint64_t count)
{
	struct node *n = node(ino);
	if (n == &root)
		return;
	n->lookups -= count;
	drop(n);
}

static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	pthread_mutex_lock(&lock);
	forget(ino, count);
	pthread_mutex_unlock(&lock);
	fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *list)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < count; i++)
		forget(list[i].ino, list[i].nlookup);
	pthread_mutex_unlock(&lock);
	fuse_reply_none(req);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	pthread_mutex_lock(&lock);
	struct stat st = node(ino)->st;
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &st, TIMEOUT);
}

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *to, int set, struct fuse_file_info *fi)
{
	(void)fi;
	pthread_mutex_lock(&lock);
	struct node *n = node(ino);
	if (set & FUSE_SET_ATTR_SIZE)
		resize(n, to->st_size);
	if (set & FUSE_SET_ATTR_MODE)
		n->st.st_mode = (n->st.st_mode & S_IFMT) | (to->st_mode & ~S_IFMT);
	stamp(n, 0);
	struct stat st = n->st;
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &st, TIMEOUT);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fuse_entry_param e;
	pthread_mutex_lock(&lock);
	int exists = find(node(parent), name) != NULL;
	if (!exists)
		describe(create(req, node(parent), name, S_IFDIR | mode), &e);
	pthread_mutex_unlock(&lock);
	if (exists)
		fuse_reply_err(req, EEXIST);
	else
		fuse_reply_entry(req, &e);
}

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	pthread_mutex_lock(&lock);
	struct entry *found = find(node(parent), name);
	int exists = found && fi->flags & O_EXCL;
	if (!exists)
		describe(found ? found->node : create(req, node(parent), name, S_IFREG | mode), &e);
	pthread_mutex_unlock(&lock);
	if (exists) {
		fuse_reply_err(req, EEXIST);
		return;
	}
	opened(fi);
	fuse_reply_create(req, &e, fi);
}

static void do_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	pthread_mutex_lock(&lock);
	struct entry *found = find(node(parent), name);
	int error = !found ? ENOENT : found->node->count ? ENOTEMPTY : 0;
	if (!error)
		unname(node(parent), found);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, error);
}

static void do_rename(fuse_req_t req, fuse_ino_t from, const char *name, fuse_ino_t to, const char *new, unsigned flags)
{
	pthread_mutex_lock(&lock);
	struct entry *e = find(node(from), name);
	int error = !e ? ENOENT : flags ? EINVAL : 0;
	if (!error) {
		struct node *n = e->node;
		nlink_t links = n->st.st_nlink;
		n->lookups++; /* keeps it while it has no name */
		unname(node(from), e);
		struct entry *old = find(node(to), new);
		if (old)
			unname(node(to), old);
		n->st.st_nlink = links;
		n->lookups--;
		add(node(to), new, n);
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, error);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (fi->flags & O_TRUNC) {
		pthread_mutex_lock(&lock);
		resize(node(ino), 0);
		stamp(node(ino), 0);
		pthread_mutex_unlock(&lock);
	}
	opened(fi);
	fuse_reply_open(req, fi);
}

/* The reply is written under the lock: the data must not move meanwhile. */
static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	pthread_mutex_lock(&lock);
	struct node *n = node(ino);
	size_t left = off < n->st.st_size ? n->st.st_size - off : 0;
	stamp(n, 1);
	fuse_reply_buf(req, left ? n->data + off : NULL, size < left ? size : left);
	pthread_mutex_unlock(&lock);
}

static void do_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	pthread_mutex_lock(&lock);
	struct node *n = node(ino);
	if (off + size > (size_t)n->st.st_size)
		resize(n, off + size);
	memcpy(n->data + off, data, size);
	stamp(n, 0);
	pthread_mutex_unlock(&lock);
	fuse_reply_write(req, size);
}

static void do_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, 0);
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	char buf[size];
	size_t used = 0;
	(void)fi;
	pthread_mutex_lock(&lock);
	struct node *dir = node(ino);
	for (size_t i = off; i < dir->count + 2; i++) {
		const char *name = i == 0 ? "." : i == 1 ? ".." : dir->entries[i - 2].name;
		struct stat *st = i < 2 ? &dir->st : &dir->entries[i - 2].node->st;
		size_t need = fuse_add_direntry(req, buf + used, size - used, name, st, i + 1);
		if (need > size - used)
			break;
		used += need;
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_buf(req, buf, used);
}

static const struct fuse_lowlevel_ops operations = {
	.init = do_init, .lookup = do_lookup, .forget = do_forget, .forget_multi = do_forget_multi,
	.getattr = do_getattr, .setattr = do_setattr, .mkdir = do_mkdir, .create = do_create,
	.unlink = do_remove, .rmdir = do_remove, .rename = do_rename, .open = do_open, .read = do_read,
	.write = do_write, .release = do_release, .readdir = do_readdir,
};

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts opts;
	if (fuse_parse_cmdline(&args, &opts))
		return 1;
	if (opts.show_version) {
		printf("libfuse %s\n", fuse_pkgversion());
		return 0;
	}
	if (!opts.mountpoint)
		return 1;
	root.st = (struct stat){.st_ino = FUSE_ROOT_ID, .st_mode = S_IFDIR | 0700, .st_nlink = 2,
		.st_uid = getuid(), .st_gid = getgid()};
	fuse_opt_add_arg(&args, "-odefault_permissions");
	struct fuse_session *se = fuse_session_new(&args, &operations, sizeof operations, NULL);
	if (!se || fuse_set_signal_handlers(se) || fuse_session_mount(se, opts.mountpoint))
		return 1;
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int error = opts.singlethread ? fuse_session_loop(se) : fuse_session_loop_mt(se, config);
	fuse_session_unmount(se);
	fuse_session_destroy(se);
	return error != 0;
}
