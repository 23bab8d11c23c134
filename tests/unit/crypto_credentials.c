/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/crypto.h"
#include "util/mem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *path_of(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", name);
	return path;
}

static const char *put(const char *name, const void *bytes, size_t len, mode_t mode)
{
	const char *path = path_of(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	cr_assert(fd >= 0 && fchmod(fd, mode) == 0);
	cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
	close(fd);
	return path;
}

static void check_passphrase(const struct credentials *c, const char *right)
{
	cr_assert_eq(c->passphrase.len, strlen(right));
	cr_assert_arr_eq(c->passphrase.ptr, right, strlen(right));
}

Test(crypto_credentials, one_newline_is_cut_from_a_passphrase_and_none_from_a_key_file)
{
	AUTO(credentials) c = CREDENTIALS_INIT;
	AUTO(buf) why = BUF_INIT;
	const char *path;

	path = put("p", "two words\n\n", 11, 0600);
	cr_assert_eq(credentials_load(path, NULL, NULL, &c, &why), 0);
	check_passphrase(&c, "two words\n");
	cr_assert_eq(credentials_load(NULL, NULL, path, &c, &why), 0);
	cr_assert_null(c.passphrase.ptr);
	cr_assert_eq(c.key_file.len, 11);
	cr_assert_eq(why.len, 0);
	unlink(path);
}

Test(crypto_credentials, a_command_gives_the_passphrase)
{
	AUTO(credentials) c = CREDENTIALS_INIT;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(credentials_load(NULL, "echo from a command", NULL, &c, &why), 0);
	check_passphrase(&c, "from a command");
	cr_assert_eq(credentials_load(NULL, "echo half; exit 3", NULL, &c, &why), -EKEYREJECTED);
	cr_assert(strstr(buf_str(&why), "passphrase_command"));
	check_passphrase(&c, "from a command");
}

static void check_refused(const char *file, const char *command, const char *key_file, int right,
			  const char *says)
{
	AUTO(credentials) c = CREDENTIALS_INIT;
	AUTO(buf) why = BUF_INIT;

	cr_assert_eq(credentials_load(file, command, key_file, &c, &why), right);
	cr_assert(strstr(buf_str(&why), says), "%s", buf_str(&why));
	cr_assert(c.passphrase.ptr == NULL && c.key_file.ptr == NULL);
}

Test(crypto_credentials, what_cannot_be_used_is_named_with_its_cause)
{
	static const uint8_t big[SECRET_BYTES_MAX + 1];
	const char *path;

	check_refused(NULL, NULL, NULL, -EINVAL, "passphrase_file");
	check_refused("/x", "y", NULL, -EINVAL, "not both");
	check_refused(path_of("absent"), NULL, NULL, -ENOENT, "absent");
	check_refused("/", NULL, NULL, -EISDIR, "/");
	path = put("open", "secret", 6, 0644);
	check_refused(path, NULL, NULL, -EPERM, "chmod 600");
	check_refused(NULL, NULL, path, -EPERM, "key file");
	unlink(path);
	path = put("big", big, sizeof(big), 0600);
	check_refused(path, NULL, NULL, -E2BIG, "larger than 65536");
	unlink(path);
	path = put("empty", "\n", 1, 0600);
	check_refused(path, NULL, NULL, -EINVAL, "empty");
	unlink(path);
	check_refused(NULL, "true", NULL, -EINVAL, "empty");
	check_refused(NULL, "cat /dev/zero", NULL, -E2BIG, "passphrase_command");
}

Test(crypto_credentials, secrets_are_copied_bounded_and_released)
{
	static const uint8_t big[SECRET_BYTES_MAX + 1];
	AUTO(secret) secret = SECRET_INIT;

	cr_assert_eq(secret_set(&secret, bytes_of_str("abc")), 0);
	cr_assert_eq(secret_set(&secret, bytes_of(big, sizeof(big))), -E2BIG);
	cr_assert_arr_eq(secret.ptr, "abc", 3);
	secret_release(&secret);
	secret_release(&secret);
	secret_free(NULL, 5);
}

Test(crypto_credentials, locked_memory_is_bounded_and_comes_back)
{
	void *blocks[64];
	size_t count = 0;

	while (count < 64 && (blocks[count] = secret_alloc(64 * 1024)))
		count++;
	cr_assert(count >= 8 && count < 64);
	for (size_t i = 0; i < count; i++)
		secret_free(blocks[i], 64 * 1024);
	blocks[0] = secret_alloc(512 * 1024);
	cr_assert(blocks[0]);
	secret_free(blocks[0], 512 * 1024);
}

Test(crypto_credentials, random_bytes_differ)
{
	uint8_t a[32], b[32];

	cr_assert_eq(crypto_random(a, 32), 0);
	cr_assert_eq(crypto_random(b, 32), 0);
	cr_assert(memcmp(a, b, 32) != 0);
	cr_assert_eq(crypto_random(a, 0), 0);
}
