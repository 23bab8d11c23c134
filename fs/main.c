/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shardfs CONFIG DIR [-f] [-o OPTION,...]: mounts and serves.
 *
 * As a daemon the process forks before it has threads; the child does all the
 * work, and the parent returns when the child says that the mount is there,
 * or has said in one line why not.
 *
 * The end, by umount or by SIGTERM: the kernel's pages are written back, the
 * loops and readers end, the store closes (all that was accepted is durable),
 * and the exit code says whether that went well.
 */
#include "config/config.h"
#include "crypto/crypto.h"
#include "ctl/ctl_client.h"
#include "fs/session.h"
#include "util/err.h"
#include "util/log.h"
#include "util/mem.h"
#include "util/notify.h"
#include "util/units.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#define EXIT_FAILED	0x01
#define EXIT_USAGE	2
#define EXIT_KEYS	7
#define LOCK_WAIT_MS	60000 /* for a daemon of the same file system that is ending */
#define DEAD_MOUNT	"%s: a dead mount is there; clear it with: umount -l %s"
#define UNMOUNT_WAIT_MS 5000  /* for programs that still hold files */

struct run_settings {
	const char *config_arg, *dir_arg;
	char *config_path, *mount_point; /* absolute */
	char *options;			 /* for libfuse, joined with commas */
	bool is_foreground, is_read_only, takes_over;
	uint64_t loops, spin_us;
	int ready_fd; /* the parent waits here; -1: none */
	int log_fd;   /* -1: stderr */
};

static const char usage_text[] =
	"usage: shardfs CONFIG DIR [-f] [-o OPTION,...]\n"
	"  -f            stay in the foreground, log to stderr\n"
	"  -o OPTION     allow_other, ro, and what else mount.fuse3(8) knows;\n"
	"                take_over (write without a majority of the providers),\n"
	"                loops=N (request loops), spin_us=N (before a loop sleeps)\n"
	"  -h, --help    this text\n"
	"  -V, --version\n";

static int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int complain(const char *format, ...)
{
	va_list args;

	fputs("shardfs: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

/* ---- arguments ---- */

/* Words of fstab that are for mount(8), not for us. */
static bool is_for_mount(const char *word)
{
	static const char *const words[] = {"defaults", "rw", "auto", "noauto", "user", "users",
					    "nouser", "nofail", "_netdev", "owner", "group",
					    "default_permissions"};

	for (size_t i = 0; i < ARRAY_COUNT(words); i++)
		if (strcmp(word, words[i]) == 0)
			return true;
	return strncmp(word, "x-", 2) == 0 || strncmp(word, "comment=", 8) == 0;
}

static int add_option(struct run_settings *run, const char *word)
{
	char *joined = run->options ? mem_printf("%s,%s", run->options, word) : mem_strdup(word);

	if (!joined)
		return -ENOMEM;
	mem_free(run->options);
	run->options = joined;
	return 0;
}

static int take_option(struct run_settings *run, const char *word)
{
	if (strncmp(word, "loops=", 6) == 0)
		return units_parse_count(word + 6, &run->loops);
	if (strncmp(word, "spin_us=", 8) == 0)
		return units_parse_count(word + 8, &run->spin_us);
	if (strcmp(word, "take_over") == 0) {
		run->takes_over = true;
		return 0;
	}
	if (is_for_mount(word))
		return 0;
	if (strcmp(word, "ro") == 0)
		run->is_read_only = true;
	return add_option(run, word);
}

static int take_options(struct run_settings *run, char *list)
{
	char *at = NULL;

	for (char *word = strtok_r(list, ",", &at); word; word = strtok_r(NULL, ",", &at)) {
		int r = take_option(run, word);

		if (r < 0) {
			complain("-o %s: %s", word, err_sentence(r));
			return r;
		}
	}
	return 0;
}

/* -1: go on; otherwise the exit code. */
static int parse_args(int argc, char **argv, struct run_settings *run)
{
	static const struct option options[] = {{"help", no_argument, NULL, 'h'},
						{"version", no_argument, NULL, 'V'},
						{"foreground", no_argument, NULL, 'f'},
						{0}};
	int c;

	while ((c = getopt_long(argc, argv, "fho:V", options, NULL)) >= 0) {
		switch (c) {
		case 'f': run->is_foreground = true; break;
		case 'o':
			if (take_options(run, optarg) < 0)
				return EXIT_USAGE;
			break;
		case 'h': fputs(usage_text, stdout); return 0;
		case 'V': puts("shardfs " PACKAGE_VERSION); return 0;
		default: fputs(usage_text, stderr); return EXIT_USAGE;
		}
	}
	if (argc - optind != 2) {
		fputs(usage_text, stderr);
		return EXIT_USAGE;
	}
	run->config_arg = argv[optind];
	run->dir_arg = argv[optind + 1];
	return -1;
}

/* ---- where to ---- */

/* Undoes the octal escapes of mountinfo, in place. */
static void unescape(char *text)
{
	char *to = text;

	for (char *from = text; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = 0;
}

struct mount_line {
	char at[4096], type[64], source[4096];
};

static bool read_mount_line(FILE *file, struct mount_line *out)
{
	char *line = NULL;
	size_t size = 0;
	bool is_read = false;

	while (!is_read && getline(&line, &size, file) > 0) {
		char *tail = strstr(line, " - ");

		is_read = tail && sscanf(line, "%*s %*s %*s %*s %4095s", out->at) == 1 &&
			  sscanf(tail + 3, "%63s %4095s", out->type, out->source) == 2;
	}
	free(line);
	if (is_read) {
		unescape(out->at);
		unescape(out->source);
	}
	return is_read;
}

/* The kernel still answers stat(2) for a mount whose daemon was killed, but not statfs(2). */
static bool is_dead(const char *path)
{
	struct statvfs st;

	return statvfs(path, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* Whether this configuration is mounted somewhere; complains when DIR is taken. */
static int look_at_mounts(const struct run_settings *run, bool *is_mounted)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	struct mount_line *line = mem_alloc(sizeof(*line));
	bool is_taken = false;

	while (file && line && read_mount_line(file, line)) {
		is_taken |= strcmp(line->at, run->mount_point) == 0;
		if (strcmp(line->source, run->config_path) == 0 &&
		    strcmp(line->type, "fuse.shardfs") == 0)
			*is_mounted = true;
	}
	mem_free(line);
	if (file)
		fclose(file);
	if (is_taken && is_dead(run->mount_point)) {
		complain(DEAD_MOUNT, run->mount_point, run->mount_point);
		return -EBUSY;
	}
	if (is_taken) {
		complain("%s: something is mounted there already; unmount it, or choose another "
			 "directory", run->mount_point);
		return -EBUSY;
	}
	return 0;
}

static int find_paths(struct run_settings *run)
{
	struct stat st;

	run->config_path = realpath(run->config_arg, NULL);
	if (!run->config_path) {
		complain("%s: %s", run->config_arg, err_sentence(errno));
		return -errno;
	}
	if (stat(run->dir_arg, &st) < 0) {
		if (errno == ENOTCONN)
			complain(DEAD_MOUNT, run->dir_arg, run->dir_arg);
		else
			complain("%s: %s", run->dir_arg, err_sentence(errno));
		return -ENOTCONN;
	}
	if (!S_ISDIR(st.st_mode)) {
		complain("%s: not a directory", run->dir_arg);
		return -ENOTDIR;
	}
	run->mount_point = realpath(run->dir_arg, NULL);
	if (!run->mount_point) {
		complain("%s: %s", run->dir_arg, err_sentence(errno));
		return -EINVAL;
	}
	return 0;
}

/* ---- the process ---- */

/* Secrets must reach no core. */
/* Parent: waits for the child's word, exits.  Child: returns 0. */
static int become_daemon(struct run_settings *run)
{
	int fds[2], status;
	char word;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(fds[0]);
		run->ready_fd = fds[1];
		setsid();
		return 0;
	}
	close(fds[1]);
	if (read(fds[0], &word, 1) == 1)
		_exit(0);
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
		_exit(WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILED);
	complain("the daemon died before the file system was mounted");
	_exit(EXIT_FAILED);
}

static int open_log(const struct config *config)
{
	AUTO_STR path = mem_printf("%s/shardfs.log", config->home);
	int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;

	if (fd < 0)
		return complain("%s: the log cannot be written: %s", path, err_sentence(errno)), -1;
	return fd;
}

/* What a library or an assertion has to say goes to the log, too. */
static void say_ready(struct run_settings *run)
{
	notify_ready("mounted");
	if (run->ready_fd < 0)
		return;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		dup2(run->log_fd >= 0 ? run->log_fd : null, 2);
		if (null > 2)
			close(null);
	}
	if (write(run->ready_fd, "r", 1) < 0)
		log_warn("parent-gone", "error=%s", err_name(errno));
	close(run->ready_fd);
	run->ready_fd = -1;
}

/* Until the mount is gone, or somebody asks us to end. */
static void wait_for_end(struct session *session, int signal_fd)
{
	struct pollfd fds[2] = {{.fd = session_end_fd(session), .events = POLLIN},
				{.fd = signal_fd, .events = POLLIN}};

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	notify_stopping();
	if (fds[0].revents) {
		log_info("unmounted", "cause=umount");
		return;
	}
	int r = session_unmount(session, UNMOUNT_WAIT_MS);

	log_info("unmounted", "cause=signal result=%s", r < 0 ? err_name(r) : "ok");
}

static int make_fuse_args(const struct run_settings *run, struct fuse_args *args)
{
	AUTO(buf) fsname = BUF_INIT;
	AUTO_STR all = NULL;
	int r = 0;

	for (const char *c = run->config_path; r == 0 && *c; c++) {
		if (*c == ',' || *c == '\\')
			r = buf_append(&fsname, bytes_of("\\", 1));
		if (r == 0)
			r = buf_append(&fsname, bytes_of(c, 1));
	}
	if (r < 0)
		return r;
	all = mem_printf("default_permissions,subtype=shardfs,fsname=%s%s%s", buf_str(&fsname),
			 run->options ? "," : "", run->options ? run->options : "");
	if (!all || fuse_opt_add_arg(args, "shardfs") < 0 || fuse_opt_add_arg(args, "-o") < 0 ||
	    fuse_opt_add_arg(args, all) < 0)
		return -ENOMEM;
	return 0;
}

static int serve(struct run_settings *run, struct store *store, int signal_fd)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct session_settings settings = {
		.store = store,
		.mount_point = run->mount_point,
		.loops = (unsigned)run->loops,
		.spin_us = (unsigned)run->spin_us,
		.is_read_only = run->is_read_only,
	};
	struct session *session;
	AUTO(buf) why = BUF_INIT;
	int r = make_fuse_args(run, &args);

	if (settings.loops == 0)
		settings.loops = (unsigned)store->config->settings.request_loops_count;
	settings.data_readers = (unsigned)store->config->settings.reader_threads_count;
	if (r == 0)
		r = session_open(&settings, &args, &why, &session);
	fuse_opt_free_args(&args);
	if (r < 0)
		return complain("%s", why.len ? buf_str(&why) : err_sentence(r));
	log_info("mounted", "loops=%u", settings.loops);
	say_ready(run);
	wait_for_end(session, signal_fd);
	session_close(session);
	return 0;
}

static void audit_mount(const struct run_settings *run, struct store *store, const char *kind,
			const char *result)
{
	AUTO(buf) what = BUF_INIT;
	char machine[65] = "";
	struct audit_event event = {
		.kind = kind,
		.result = result,
		.who = audit_who(getuid(), getgid(), (uint32_t)getpid()),
	};

	gethostname(machine, sizeof(machine) - 1);
	buf_printf(&what, "%s at %s on %s", kind, run->mount_point, machine);
	event.what = buf_str(&what) ? buf_str(&what) : kind;
	store_audit(store, &event); /* on failure it is counted and logged there */
}

static int run_store(struct run_settings *run, int signal_fd)
{
	struct config *config = mem_alloc(sizeof(*config));
	struct store *store;
	AUTO(buf) why = BUF_INIT;
	bool is_mounted = false;
	char result[24];
	int r, code;

	if (!config)
		return complain("%s", err_sentence(ENOMEM));
	r = config_load(run->config_path, store_mount_checks(), config, &why);
	if (r < 0) {
		mem_free(config);
		complain("%s", why.len ? buf_str(&why) : err_sentence(r));
		return EXIT_USAGE;
	}
	if (look_at_mounts(run, &is_mounted) < 0) {
		config_release(config);
		mem_free(config);
		return EXIT_FAILED;
	}
	if (!run->is_foreground)
		run->log_fd = open_log(config);
	log_setup(run->log_fd >= 0 ? run->log_fd : 2, (enum log_level)config->settings.log_level,
		  config->settings.log_format == CONFIG_LOG_JSON);
	r = store_open(config, is_mounted ? 0 : LOCK_WAIT_MS, run->takes_over, &why, &store);
	if (r < 0) {
		config_release(config);
		mem_free(config);
		complain("%s", why.len ? buf_str(&why) : err_sentence(r));
		return r == -EKEYREJECTED || r == -ENOKEY ? EXIT_KEYS : EXIT_FAILED;
	}
	audit_mount(run, store, "mount", "ok");
	code = serve(run, store, signal_fd);
	snprintf(result, sizeof(result), code ? "exit %d" : "ok", code);
	audit_mount(run, store, "unmount", result);
	r = store_close(store);
	if (r < 0) {
		log_error("close-failed", "error=%s", err_name(r));
		code = EXIT_FAILED;
	}
	return code;
}

static void run_settings_release(struct run_settings *run)
{
	free(run->config_path); /* of realpath(3) */
	free(run->mount_point);
	mem_free(run->options);
}

int main(int argc, char **argv)
{
	AUTO(run_settings) run = {.ready_fd = -1, .log_fd = -1};
	sigset_t signals;
	int code = parse_args(argc, argv, &run);
	int signal_fd;

	if (code >= 0)
		return code;
	if (find_paths(&run) < 0)
		return EXIT_FAILED;
	if (!run.is_foreground && become_daemon(&run) < 0)
		return complain("no daemon: %s", err_sentence(errno));
	crypto_harden_process();
	ctl_wipe_json();
	if (crypto_init() < 0 || crypto_self_test() < 0)
		return complain("%s", "the cryptographic library does not work as it must");
	umask(0077);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (signal_fd < 0 || chdir("/") < 0)
		return complain("%s", err_sentence(errno));
	code = run_store(&run, signal_fd);
	close(signal_fd);
	return code;
}
