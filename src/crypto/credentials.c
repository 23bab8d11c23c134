/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/crypto.h"

#include "crypto/recovery.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Secrets go from the descriptor straight into locked memory: read in place,
 * one byte more than allowed so that "too long" is noticed, then cut to size.
 */

#define COMMAND_TIMEOUT_MS 60000

extern char **environ;

/* Waits until fd can be read; 0, -ETIMEDOUT. deadline_ms 0: for ever. */
static int wait_readable(int fd, uint64_t deadline_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	for (;;) {
		uint64_t now = clock_mono_ms();
		int wait_ms = -1;
		int r;

		if (deadline_ms > 0)
			wait_ms = deadline_ms > now ? (int)(deadline_ms - now) : 0;
		r = poll(&poll_fd, 1, wait_ms);
		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int read_all(int fd, uint64_t deadline_ms, struct secret *out)
{
	size_t size = SECRET_BYTES_MAX + 1, len = 0;
	uint8_t *raw = secret_alloc(size);
	int r = 0;

	if (!raw)
		return -ENOMEM;
	while (len < size) {
		ssize_t n;

		r = wait_readable(fd, deadline_ms);
		if (r < 0)
			break;
		n = read(fd, raw + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (r == 0)
		r = secret_set(out, bytes_of(raw, len));
	secret_free(raw, size);
	return r;
}

static void cut_newline(struct secret *secret)
{
	if (secret->len > 0 && secret->ptr[secret->len - 1] == '\n')
		secret->ptr[--secret->len] = 0;
}

static int fail_file(int r, const char *path, const char *what, struct buf *why)
{
	switch (r) {
	case -E2BIG:
		buf_printf(why, "%s: %s is larger than %zu bytes", path, what, SECRET_BYTES_MAX);
		break;
	case -EPERM:
		buf_printf(why, "%s: %s may be read by others; run: chmod 600 %s", path, what,
			   path);
		break;
	default:
		buf_printf(why, "%s: cannot read the %s: %s", path, what, err_sentence(r));
	}
	return r;
}

static int read_file(const char *path, const char *what, struct secret *out, struct buf *why)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_file(-errno, path, what, why);
	if (S_ISDIR(st.st_mode))
		return fail_file(-EISDIR, path, what, why);
	if (S_ISREG(st.st_mode) && (st.st_mode & 077))
		return fail_file(-EPERM, path, what, why);
	r = read_all(fd, 0, out);
	return r < 0 ? fail_file(r, path, what, why) : 0;
}

static int spawn_shell(const char *command, int out_fd, pid_t *pid)
{
	char *const argv[] = {(char *)"sh", (char *)"-c", (char *)command, NULL};
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r != 0)
		return -r;
	r = posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn(pid, "/bin/sh", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* The child's exit status as 0 or -EKEYREJECTED. */
static int reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EKEYREJECTED;
}

static int run_command(const char *command, struct secret *out, struct buf *why)
{
	int fds[2];
	pid_t pid;
	int r, status;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	r = spawn_shell(command, fds[1], &pid);
	close(fds[1]);
	if (r < 0) {
		close(fds[0]);
		buf_printf(why, "passphrase_command: cannot start /bin/sh: %s", err_sentence(r));
		return r;
	}
	r = read_all(fds[0], clock_mono_ms() + COMMAND_TIMEOUT_MS, out);
	if (r < 0)
		kill(pid, SIGKILL);
	close(fds[0]);
	status = reap(pid);
	if (r == -ETIMEDOUT)
		buf_printf(why, "passphrase_command: gave no passphrase within %d s",
			   COMMAND_TIMEOUT_MS / 1000);
	else if (r < 0)
		buf_printf(why, "passphrase_command: %s", err_sentence(r));
	else if (status < 0)
		buf_printf(why, "passphrase_command: failed; run it by hand to see why");
	if (r == 0)
		r = status;
	if (r < 0)
		secret_release(out);
	return r == -ETIMEDOUT ? -EKEYREJECTED : r;
}

/* A recovery key becomes the one text that its slot was made with. */
static int unify_recovery_key(struct secret *passphrase, struct buf *why)
{
	struct bytes typed = bytes_of(passphrase->ptr, passphrase->len);
	size_t size = RECOVERY_KEY_BYTES + RECOVERY_TEXT_SIZE;
	uint8_t *key;
	char *text;
	int r;

	if (!recovery_key_is_meant(typed))
		return 0;
	key = secret_alloc(size);
	if (!key)
		return -ENOMEM;
	text = (char *)key + RECOVERY_KEY_BYTES;
	r = recovery_key_parse(typed, key);
	if (r == 0) {
		recovery_key_print(key, text);
		r = secret_set(passphrase, bytes_of_str(text));
	} else {
		buf_printf(why, "the recovery key (SRK1-...) has a wrong character; "
				"compare it with the paper");
		r = -EKEYREJECTED;
	}
	secret_free(key, size);
	return r;
}

int credentials_load(const char *passphrase_file, const char *passphrase_command,
		     const char *key_file, struct credentials *out, struct buf *why)
{
	AUTO(credentials) got = CREDENTIALS_INIT;
	bool wants_passphrase = passphrase_file || passphrase_command;
	int r = 0;

	if (passphrase_file && passphrase_command) {
		buf_printf(why, "give either passphrase_file or passphrase_command, not both");
		return -EINVAL;
	}
	if (!wants_passphrase && !key_file) {
		buf_printf(why, "no key: give passphrase_file, passphrase_command or key_file");
		return -EINVAL;
	}
	if (passphrase_file)
		r = read_file(passphrase_file, "passphrase file", &got.passphrase, why);
	else if (passphrase_command)
		r = run_command(passphrase_command, &got.passphrase, why);
	if (r == 0 && key_file)
		r = read_file(key_file, "key file", &got.key_file, why);
	if (r < 0)
		return r;
	cut_newline(&got.passphrase);
	if ((wants_passphrase && got.passphrase.len == 0) || (key_file && got.key_file.len == 0)) {
		buf_printf(why, "%s: is empty",
			   wants_passphrase && got.passphrase.len == 0
				   ? (passphrase_file ? passphrase_file : "passphrase_command")
				   : key_file);
		return -EINVAL;
	}
	r = unify_recovery_key(&got.passphrase, why);
	if (r < 0)
		return r;
	credentials_release(out);
	*out = got;
	got = (struct credentials)CREDENTIALS_INIT;
	return 0;
}
