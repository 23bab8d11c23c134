/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sentences that people meet in our messages are ours, in the words of a
 * filesystem; the C library has the rest.
 */
#include "util/err.h"

#include "util/mem.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static const char *const sentences[] = {
	[0] = "success",
	[EPERM] = "operation not permitted",
	[ENOENT] = "no such file or directory",
	[EINTR] = "interrupted",
	[EIO] = "input/output error",
	[EBADF] = "bad file descriptor",
	[EAGAIN] = "try again later",
	[ENOMEM] = "out of memory",
	[EACCES] = "permission denied",
	[EBUSY] = "in use",
	[EEXIST] = "exists already",
	[EXDEV] = "not on the same filesystem",
	[ENODEV] = "no such device",
	[ENOTDIR] = "not a directory",
	[EISDIR] = "is a directory",
	[EINVAL] = "invalid argument",
	[ENFILE] = "too many open files in the system",
	[EMFILE] = "too many open files",
	[EFBIG] = "file too large",
	[ENOSPC] = "no space left on device",
	[EROFS] = "read-only filesystem",
	[EPIPE] = "closed by the other side",
	[ERANGE] = "out of range",
	[EDEADLK] = "would deadlock",
	[ENAMETOOLONG] = "name too long",
	[ENOSYS] = "not supported by the kernel",
	[ENOTEMPTY] = "directory not empty",
	[ELOOP] = "too many symbolic links",
	[ENODATA] = "no data available",
	[EPROTO] = "protocol error",
	[EBADMSG] = "damaged: the bytes do not authenticate",
	[EOVERFLOW] = "value too large",
	[EOPNOTSUPP] = "not supported",
	[ETIMEDOUT] = "timed out",
	[ESTALE] = "changed meanwhile",
	[EDQUOT] = "quota exceeded",
	[ENOMEDIUM] = "archived: must be restored first",
	[ECANCELED] = "cancelled",
	[EKEYREJECTED] = "wrong passphrase or key",
};

static unsigned magnitude(int err)
{
	return err < 0 ? 0u - (unsigned)err : (unsigned)err;
}

static const char *unknown(int err)
{
	static _Thread_local char text[24];

	snprintf(text, sizeof(text), "errno %u", magnitude(err));
	return text;
}

const char *err_name(int err)
{
	unsigned e = magnitude(err);
	const char *name = e <= 4095 ? strerrorname_np((int)e) : NULL;

	if (e == 0)
		return "OK";
	return name != NULL ? name : unknown(err);
}

const char *err_sentence(int err)
{
	unsigned e = magnitude(err);
	const char *text;

	if (e < ARRAY_COUNT(sentences) && sentences[e] != NULL)
		return sentences[e];
	text = e <= 4095 ? strerrordesc_np((int)e) : NULL;
	return text != NULL ? text : unknown(err);
}
