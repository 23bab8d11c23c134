/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequences DIR SEED: every sequence of one to three operations, and what may
 * be there when the machine dies behind it.
 *
 * Commands on standard input, one answer line for each ("ok ..." or "BAD ..."):
 *
 *	count			how many there are
 *	batch PID FROM COUNT BEFORE
 *				works COUNT sequences from FROM on (in an order that the seed
 *				gives), each in a directory of its own, their operations in
 *				random order among each other; then SIGKILL to PID, BEFORE
 *				operations earlier than the end of all of them
 *	kill | power		after a mount: judges the batch (what it was that died)
 *	quit
 *
 * A directory begins with the files a (9000 bytes) and b (5000), synced.  The
 * operations are create (of c), write (truncate to nothing, and 7000 bytes), append,
 * overwrite (4000 bytes at 1000), truncate (to 2500), rename over another, link (to
 * l), unlink, fsync of a file, fsync of the directory; on each name that there is by
 * then.  Each sequence comes twice: files are closed at once, or kept open.
 *
 * The model is that of crash_oracle.c in small.  The changes of names and the
 * truncations that are there are a prefix, in order; what closed (kill) or fsync
 * (both) acknowledged is in it, and with it all that came before it, whichever
 * sequence it is of.  Each byte is of the newest write that it may be of, or of one
 * before it down to an acknowledged one.
 */
#include "tests/lib/rng.h"
#include "util/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#define OPS	   3
#define NAMES	   4 /* a b c l */
#define INODES	   3 /* of a, b, c */
#define EVENTS_MAX (3 * OPS)
#define BYTES_MAX  20000u
#define BATCH_MAX  4000u
#define OPEN_MAX   (2 * OPS)

enum kind {
	CREATE, WRITE, APPEND, OVERWRITE, TRUNCATE, RENAME, LINK, UNLINK, FSYNC, FSYNCDIR, KINDS
};
static const char *const kind_names[] = {"create", "write",  "append", "overwrite", "truncate",
					 "rename", "link",   "unlink", "fsync",	    "fsyncdir"};

struct op {
	uint8_t kind, name, to;
};

struct sequence {
	struct op ops[OPS];
	uint8_t count;
	bool is_kept_open;
};

/* One thing that happened: a change of names, a truncation, bytes, an acknowledgement. */
enum event_kind { EV_CREATE, EV_RENAME, EV_LINK, EV_UNLINK, EV_TRUNCATE, EV_BYTES, EV_CLOSE, EV_SYNC,
		  EV_SYNCDIR };

struct event {
	enum event_kind kind;
	int inode, name, to;
	uint64_t off, len, stamp;
	bool is_done; /* it was answered */
};

struct names {
	int inode[NAMES]; /* -1: no such name */
};

struct run {
	const struct sequence *sequence;
	uint32_t number; /* of the sequence; what bytes are made from */
	unsigned done;	 /* operations */
	struct names names;
	uint64_t sizes[INODES];
	struct event events[EVENTS_MAX];
	unsigned event_count;
	int fds[OPEN_MAX];
	unsigned fd_count;
	char dir[300];
};

static struct sequence *sequences;
static uint32_t sequence_count, sequence_capacity;
static struct run *runs;
static unsigned run_count;
static const char *top;
static uint64_t stamp;
static uint64_t batch_no;
static struct rng rng;
static char complaint[512];

static bool bad(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool bad(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!complaint[0])
		vsnprintf(complaint, sizeof(complaint), format, args);
	va_end(args);
	return false;
}

static void *need(void *p)
{
	if (!p) {
		puts("BAD out of memory");
		exit(2);
	}
	return p;
}

/* ---- all sequences ---- */

static const struct names names_first = {{0, 1, -1, -1}};

static void names_apply(struct names *names, const struct op *op)
{
	switch (op->kind) {
	case CREATE: names->inode[2] = 2; break;
	case LINK: names->inode[3] = names->inode[op->name]; break;
	case UNLINK: names->inode[op->name] = -1; break;
	case RENAME:
		if (names->inode[op->name] == names->inode[op->to])
			break; /* two names of one file: nothing happens */
		names->inode[op->to] = names->inode[op->name];
		names->inode[op->name] = -1;
		break;
	default: break;
	}
}

static bool is_there(const struct names *names, int inode)
{
	for (int n = 0; n < NAMES; n++)
		if (names->inode[n] == inode)
			return true;
	return false;
}

static void sequence_add(const struct op *ops, unsigned count)
{
	for (int kept = 0; kept < 2; kept++) {
		struct sequence *sequence;

		if (sequence_count == sequence_capacity) {
			sequence_capacity = MAX(sequence_capacity * 2, 1024u);
			sequences = need(realloc(sequences, sequence_capacity * sizeof(*sequences)));
		}
		sequence = &sequences[sequence_count++];
		*sequence = (struct sequence){.count = (uint8_t)count, .is_kept_open = kept};
		memcpy(sequence->ops, ops, count * sizeof(*ops));
	}
}

/* a and b are alike as long as neither was touched: then only a is taken. */
static bool is_mirrored(const struct op *ops, unsigned count, const struct op *op)
{
	for (unsigned i = 0; i < count; i++)
		if (ops[i].kind != CREATE && ops[i].kind != FSYNCDIR)
			return false;
	return op->kind != CREATE && op->kind != FSYNCDIR && op->name == 1 &&
	       (op->kind != RENAME || op->to == 0);
}

static void enumerate(struct op *ops, unsigned count, const struct names *names)
{
	for (int kind = 0; kind < KINDS && count < OPS; kind++) {
		for (int name = 0; name < NAMES; name++) {
			for (int to = 0; to < NAMES; to++) {
				struct op op = {(uint8_t)kind, (uint8_t)name, (uint8_t)to};
				struct names then = *names;
				bool has_name = kind != CREATE && kind != FSYNCDIR;

				if (has_name ? names->inode[name] < 0 : name > 0)
					continue;
				if (kind == RENAME ? to == name || names->inode[to] < 0 : to > 0)
					continue;
				if ((kind == CREATE && (names->inode[2] >= 0 || is_there(names, 2))) ||
				    (kind == LINK && names->inode[3] >= 0) ||
				    is_mirrored(ops, count, &op))
					continue;
				/* c is made once: its inode must not come back as another */
				for (unsigned i = 0; kind == CREATE && i < count; i++)
					has_name |= ops[i].kind == CREATE;
				if (kind == CREATE && has_name)
					continue;
				ops[count] = op;
				names_apply(&then, &op);
				sequence_add(ops, count + 1);
				enumerate(ops, count + 1, &then);
			}
		}
	}
}

static void shuffle(void)
{
	for (uint32_t i = sequence_count; i-- > 1;) {
		uint32_t j = (uint32_t)rng_below(&rng, i + 1);
		struct sequence moved = sequences[i];

		sequences[i] = sequences[j];
		sequences[j] = moved;
	}
}

static const char *print(const struct sequence *sequence, char out[200])
{
	int at = 0;

	for (unsigned i = 0; i < sequence->count; i++) {
		const struct op *op = &sequence->ops[i];

		at += snprintf(out + at, 200 - (size_t)at, "%s%s", i ? ", " : "",
			       kind_names[op->kind]);
		if (op->kind != CREATE && op->kind != FSYNCDIR)
			at += snprintf(out + at, 200 - (size_t)at, " %c", "abcl"[op->name]);
		if (op->kind == RENAME)
			at += snprintf(out + at, 200 - (size_t)at, " over %c", "abcl"[op->to]);
	}
	snprintf(out + at, 200 - (size_t)at, sequence->is_kept_open ? " (kept open)" : "");
	return out;
}

/* ---- working ---- */

static void pattern(uint32_t number, int inode, unsigned event, uint64_t off, size_t len,
		    uint8_t *out)
{
	uint64_t who = map_hash_u64((uint64_t)number << 16 ^ (uint64_t)(inode + 1) << 8 ^ event);

	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(1 + map_hash_u64(who + (off + i) / 8) % 254);
}

static struct event *event_add(struct run *run, enum event_kind kind, int inode)
{
	struct event *event = &run->events[run->event_count++];

	*event = (struct event){.kind = kind, .inode = inode, .stamp = ++stamp};
	return event;
}

static const char *path_of(const struct run *run, int name)
{
	static char paths[2][320];
	static unsigned turn;
	char *path = paths[turn++ % 2];

	snprintf(path, sizeof(paths[0]), "%s/%c", run->dir, "abcl"[name]);
	return path;
}

/* Closed, which acknowledges; or kept open, which does not. */
static bool let_go(struct run *run, int fd, int inode)
{
	struct event *event;

	if (run->sequence->is_kept_open) {
		run->fds[run->fd_count++] = fd;
		return true;
	}
	event = event_add(run, EV_CLOSE, inode);
	event->is_done = close(fd) == 0;
	return event->is_done;
}

static bool put_bytes(struct run *run, int fd, int inode, uint64_t off, size_t len)
{
	struct event *event = event_add(run, EV_BYTES, inode);
	uint8_t bytes[BYTES_MAX];

	event->off = off;
	event->len = len;
	pattern(run->number, inode, (unsigned)(event - run->events) + 1, off, len, bytes);
	event->is_done = pwrite(fd, bytes, len, (off_t)off) == (ssize_t)len;
	run->sizes[inode] = MAX(run->sizes[inode], off + len);
	return event->is_done;
}

static bool do_bytes(struct run *run, const struct op *op)
{
	int inode = run->names.inode[op->name], flags = O_WRONLY | O_CLOEXEC, fd;
	uint64_t off = op->kind == APPEND ? run->sizes[inode] : op->kind == OVERWRITE ? 1000 : 0;
	size_t len = op->kind == WRITE ? 7000 : op->kind == APPEND ? 3000 : 4000;

	if (op->kind == WRITE) {
		struct event *event = event_add(run, EV_TRUNCATE, inode);

		fd = open(path_of(run, op->name), flags | O_TRUNC);
		event->is_done = fd >= 0;
		run->sizes[inode] = 0;
	} else {
		fd = open(path_of(run, op->name), flags | (op->kind == APPEND ? O_APPEND : 0));
	}
	return fd >= 0 && put_bytes(run, fd, inode, off, len) && let_go(run, fd, inode);
}

static bool do_create(struct run *run)
{
	struct event *event = event_add(run, EV_CREATE, 2);
	int fd = open(path_of(run, 2), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	event->name = 2;
	event->is_done = fd >= 0;
	return fd >= 0 && let_go(run, fd, 2);
}

static bool do_sync(struct run *run, const struct op *op)
{
	bool is_dir = op->kind == FSYNCDIR;
	struct event *event = event_add(run, is_dir ? EV_SYNCDIR : EV_SYNC,
					is_dir ? -1 : run->names.inode[op->name]);
	AUTO_FD fd = open(is_dir ? run->dir : path_of(run, op->name), O_RDONLY | O_CLOEXEC);

	event->is_done = fd >= 0 && fsync(fd) == 0;
	return event->is_done;
}

static bool do_names(struct run *run, const struct op *op)
{
	static const enum event_kind kinds[KINDS] = {[RENAME] = EV_RENAME, [LINK] = EV_LINK,
						     [UNLINK] = EV_UNLINK,
						     [TRUNCATE] = EV_TRUNCATE};
	int inode = run->names.inode[op->name], r;
	struct event *event = event_add(run, kinds[op->kind], inode);

	event->name = op->name;
	event->to = op->to;
	switch (op->kind) {
	case RENAME: r = rename(path_of(run, op->name), path_of(run, op->to)); break;
	case LINK: r = link(path_of(run, op->name), path_of(run, 3)); break;
	case UNLINK: r = unlink(path_of(run, op->name)); break;
	default:
		event->off = run->sizes[inode] = 2500;
		r = truncate(path_of(run, op->name), 2500);
		break;
	}
	event->is_done = r == 0;
	return r == 0;
}

static bool run_step(struct run *run)
{
	const struct op *op = &run->sequence->ops[run->done];
	bool is_fine;
	char text[200];

	switch (op->kind) {
	case CREATE: is_fine = do_create(run); break;
	case WRITE:
	case APPEND:
	case OVERWRITE: is_fine = do_bytes(run, op); break;
	case FSYNC:
	case FSYNCDIR: is_fine = do_sync(run, op); break;
	default: is_fine = do_names(run, op); break;
	}
	if (!is_fine)
		return bad("sequence %u (%s): operation %u: %s", run->number,
			   print(run->sequence, text), run->done + 1, strerror(errno));
	names_apply(&run->names, op);
	run->done++;
	return true;
}

static bool put_base(const struct run *run, int inode, size_t len)
{
	uint8_t bytes[BYTES_MAX];
	AUTO_FD fd = open(path_of(run, inode), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	pattern(run->number, inode, 0, 0, len, bytes);
	return fd >= 0 && write(fd, bytes, len) == (ssize_t)len && fsync(fd) == 0;
}

static bool prepare(struct run *run, uint32_t number)
{
	*run = (struct run){.sequence = &sequences[number], .number = number, .names = names_first,
			    .sizes = {9000, 5000, 0}};
	snprintf(run->dir, sizeof(run->dir), "%.200s/%llu-%u", top, (unsigned long long)batch_no,
		 number);
	if (mkdir(run->dir, 0700) == 0 && put_base(run, 0, 9000) && put_base(run, 1, 5000))
		return true;
	return bad("%s: %s", run->dir, strerror(errno));
}

static bool sync_top(void)
{
	AUTO_FD fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return (fd >= 0 && fsync(fd) == 0) || bad("%s: fsync: %s", top, strerror(errno));
}

static void runs_release(void)
{
	for (unsigned i = 0; i < run_count; i++)
		for (unsigned f = 0; f < runs[i].fd_count; f++)
			close(runs[i].fds[f]);
	run_count = 0;
}

static bool work(pid_t pid, uint32_t from, unsigned count, unsigned before)
{
	unsigned ops = 0;

	runs_release();
	batch_no++;
	if (from >= sequence_count || count > BATCH_MAX)
		return bad("there are %u sequences, %u in a batch", sequence_count, BATCH_MAX);
	count = MIN(count, sequence_count - from);
	for (; run_count < count; run_count++) {
		if (!prepare(&runs[run_count], from + run_count))
			return false;
		ops += runs[run_count].sequence->count;
	}
	if (!sync_top())
		return false;
	for (; ops > before; ops--) {
		struct run *run;

		do {
			run = &runs[rng_below(&rng, run_count)];
		} while (run->done == run->sequence->count);
		if (!run_step(run))
			return false;
	}
	if (pid > 0)
		kill(pid, SIGKILL);
	return true;
}

/* ---- judging ---- */

struct found {
	ino_t ino;
	nlink_t links;
	size_t size;
	uint8_t *bytes; /* NULL: no such name */
};

static void found_release(struct found found[NAMES])
{
	for (int n = 0; n < NAMES; n++)
		free(found[n].bytes);
}

static bool look(const struct run *run, struct found found[NAMES])
{
	unsigned entries = 0, names = 0;
	struct dirent *entry;
	DIR *dir = opendir(run->dir);

	if (!dir)
		return bad("%s: %s", run->dir, strerror(errno));
	while ((entry = readdir(dir)))
		entries += entry->d_name[0] != '.';
	closedir(dir);
	for (int n = 0; n < NAMES; n++) {
		AUTO_FD fd = open(path_of(run, n), O_RDONLY | O_CLOEXEC);
		struct stat st;

		found[n].bytes = NULL;
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > (off_t)BYTES_MAX)
			return bad("%s: %s", path_of(run, n), strerror(errno));
		found[n] = (struct found){.ino = st.st_ino, .links = st.st_nlink,
					  .size = (size_t)st.st_size,
					  .bytes = need(calloc(1, BYTES_MAX + 1))};
		if (read(fd, found[n].bytes, BYTES_MAX) != st.st_size)
			return bad("%s: read: %s", path_of(run, n), strerror(errno));
		names++;
	}
	return names == entries || bad("%s: %u entries, %u known", run->dir, entries, names);
}

static bool is_metadata(const struct event *event)
{
	return event->kind <= EV_TRUNCATE;
}

static bool acknowledges(const struct event *event, bool is_power)
{
	return event->is_done && (event->kind == EV_SYNC || event->kind == EV_SYNCDIR ||
				  (event->kind == EV_CLOSE && !is_power));
}

/* When the newest change began that the acknowledgement stands for; 0: it stands for none. */
static uint64_t stands_for(const struct run *run, unsigned barrier)
{
	const struct event *sync = &run->events[barrier];

	for (unsigned i = barrier; i-- > 0;) {
		const struct event *event = &run->events[i];

		if (event->kind >= EV_CLOSE)
			continue;
		if (sync->kind == EV_SYNCDIR ? event->kind < EV_TRUNCATE
					     : event->inode == sync->inode)
			return event->stamp;
	}
	return 0;
}

static uint64_t newest_acknowledged(bool is_power)
{
	uint64_t newest = 0;

	for (unsigned r = 0; r < run_count; r++)
		for (unsigned i = 0; i < runs[r].event_count; i++)
			if (acknowledges(&runs[r].events[i], is_power))
				newest = MAX(newest, stands_for(&runs[r], i));
	return newest;
}

static void event_apply(struct names *names, const struct event *event)
{
	static const uint8_t kinds[] = {[EV_CREATE] = CREATE, [EV_RENAME] = RENAME, [EV_LINK] = LINK,
					[EV_UNLINK] = UNLINK};
	struct op op;

	if (event->kind >= EV_TRUNCATE)
		return;
	op = (struct op){kinds[event->kind], (uint8_t)event->name, (uint8_t)event->to};
	names_apply(names, &op);
}

static bool same_names(const struct names *names, const struct found found[NAMES], char why[160])
{
	for (int n = 0; n < NAMES; n++) {
		unsigned links = 0;

		if ((names->inode[n] >= 0) != (found[n].bytes != NULL)) {
			snprintf(why, 160, "%c is %s", "abcl"[n], found[n].bytes ? "there" : "missing");
			return false;
		}
		for (int m = 0; m < NAMES && found[n].bytes; m++) {
			bool is_same = names->inode[m] == names->inode[n];

			links += is_same;
			if (found[m].bytes && (found[m].ino == found[n].ino) != is_same) {
				snprintf(why, 160, "%c and %c are%s one file", "abcl"[n], "abcl"[m],
					 is_same ? " not" : "");
				return false;
			}
		}
		if (found[n].bytes && found[n].links != links) {
			snprintf(why, 160, "%c has %u links, not %u", "abcl"[n],
				 (unsigned)found[n].links, links);
			return false;
		}
	}
	return true;
}

/* Everything of this inode in front of it is definite. */
static unsigned barrier_of(const struct run *run, int inode, bool is_power)
{
	for (unsigned i = run->event_count; i-- > 0;)
		if (run->events[i].inode == inode && run->events[i].kind != EV_SYNCDIR &&
		    acknowledges(&run->events[i], is_power))
			return i;
	return 0;
}

static bool same_bytes(const struct run *run, int inode, unsigned cut, bool is_power,
		       const struct found *found, char why[160])
{
	static const size_t base_sizes[INODES] = {9000, 5000, 0};
	unsigned barrier = barrier_of(run, inode, is_power);
	uint64_t lo = base_sizes[inode], hi = lo, base = lo;
	uint8_t made[BYTES_MAX], state[BYTES_MAX] = {0}; /* 0 asked, 1 explained, 2 refused */

	for (unsigned i = 0; i < cut; i++) {
		const struct event *event = &run->events[i];

		if (event->inode != inode)
			continue;
		if (event->kind == EV_TRUNCATE)
			lo = hi = event->off;
		if (event->kind != EV_BYTES)
			continue;
		hi = MAX(hi, event->off + event->len);
		if (i < barrier)
			lo = MAX(lo, event->off + event->len);
	}
	if (found->size < lo || found->size > hi) {
		snprintf(why, 160, "size %zu, not %u to %u", found->size, (unsigned)lo, (unsigned)hi);
		return false;
	}
	for (unsigned i = cut; i-- > 0;) {
		const struct event *event = &run->events[i];
		bool is_definite = event->kind == EV_TRUNCATE || i < barrier;
		uint64_t end = event->off + event->len;

		if (event->inode != inode || (event->kind != EV_BYTES && event->kind != EV_TRUNCATE))
			continue;
		if (event->kind == EV_TRUNCATE) {
			memset(made, 0, sizeof(made));
			end = BYTES_MAX;
		} else {
			pattern(run->number, inode, i + 1, event->off, event->len, made + event->off);
		}
		for (uint64_t p = event->off; p < MIN(end, found->size); p++) {
			if (state[p] == 0 && found->bytes[p] == made[p])
				state[p] = 1;
			else if (state[p] == 0 && is_definite)
				state[p] = 2;
		}
	}
	memset(made, 0, sizeof(made));
	pattern(run->number, inode, 0, 0, base, made);
	for (uint64_t p = 0; p < found->size; p++) {
		if (state[p] == 1 || (state[p] == 0 && found->bytes[p] == made[p]))
			continue;
		snprintf(why, 160, "byte %u is 0x%02x (%s)", (unsigned)p, found->bytes[p],
			 state[p] == 2 ? "an acknowledged one was expected" : "nobody wrote that");
		return false;
	}
	/* A hole at the end is one that a truncation made: no size without its bytes. */
	for (unsigned i = 0; i < cut; i++)
		if (run->events[i].kind == EV_TRUNCATE && run->events[i].inode == inode &&
		    run->events[i].off == found->size)
			return true;
	if (found->size > base && found->bytes[found->size - 1] == 0) {
		snprintf(why, 160, "size %zu without the bytes", found->size);
		return false;
	}
	return true;
}

static bool cut_fits(const struct run *run, unsigned cut, bool is_power,
		     const struct found found[NAMES], char why[160])
{
	struct names names = names_first;

	for (unsigned i = 0; i < cut; i++)
		event_apply(&names, &run->events[i]);
	if (!same_names(&names, found, why))
		return false;
	for (int n = 0; n < NAMES; n++) {
		char what[160] = "";

		if (names.inode[n] < 0 ||
		    same_bytes(run, names.inode[n], cut, is_power, &found[n], what))
			continue;
		snprintf(why, 160, "%c: %.150s", "abcl"[n], what);
		return false;
	}
	return true;
}

static bool judge(const struct run *run, uint64_t newest, bool is_power)
{
	struct found found[NAMES] = {0};
	char why[160] = "", last_why[160] = "", text[200];
	bool is_fine = look(run, found), fits = false;
	unsigned required = 0;

	for (unsigned i = 0; i < run->event_count; i++)
		if (is_metadata(&run->events[i]) && run->events[i].is_done &&
		    run->events[i].stamp <= newest)
			required = i + 1;
	for (unsigned cut = required; is_fine && !fits && cut <= run->event_count; cut++) {
		if (cut != run->event_count && !is_metadata(&run->events[cut]))
			continue;
		fits = cut_fits(run, cut, is_power, found, why);
		if (!fits)
			snprintf(last_why, sizeof(last_why), "%s", why);
	}
	found_release(found);
	if (!is_fine || fits)
		return is_fine;
	return bad("sequence %u (%s), %u done, in %s: no state from event %u of %u on is there: %s",
		   run->number, print(run->sequence, text), run->done, run->dir, required,
		   run->event_count, last_why);
}

static bool verify(bool is_power)
{
	uint64_t newest = newest_acknowledged(is_power);

	for (unsigned i = 0; i < run_count; i++)
		if (!judge(&runs[i], newest, is_power))
			return false;
	return true;
}

int main(int argc, char **argv)
{
	struct op ops[OPS];
	char line[128];

	if (argc != 3) {
		fputs("usage: sequences DIR SEED\n", stderr);
		return 2;
	}
	top = argv[1];
	rng.seed = rng.state = strtoull(argv[2], NULL, 0);
	runs = need(calloc(BATCH_MAX, sizeof(*runs)));
	enumerate(ops, 0, &names_first);
	shuffle();
	while (fgets(line, sizeof(line), stdin)) {
		unsigned from, count, before;
		bool is_fine = true;
		int pid;

		if (sscanf(line, "batch %d %u %u %u", &pid, &from, &count, &before) == 4)
			is_fine = work(pid, from, count, before);
		else if (strcmp(line, "kill\n") == 0 || strcmp(line, "power\n") == 0)
			is_fine = verify(line[0] == 'p');
		else if (strcmp(line, "quit\n") == 0)
			return 0;
		else if (strcmp(line, "count\n") != 0)
			is_fine = bad("unknown command: %.40s", line);
		if (is_fine)
			printf("ok %u\n", line[0] == 'c' ? sequence_count : run_count);
		else
			printf("BAD %s\n", complaint);
		fflush(stdout);
		if (!is_fine)
			return 1;
	}
	return 0;
}
